# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Fills whole images with what another shows the guest: imports and rewrites."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._formats import features
from ansible_collections.platter.qemu.plugins.module_utils._image import (
    actions,
    data_file,
    difference,
    leftovers,
    publish,
    secret,
    space,
    state,
)
from ansible_collections.platter.qemu.plugins.module_utils._image.build import (
    create_arguments,
    file_node,
    open_with_qemu,
)
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import image
from ansible_collections.platter.qemu.plugins.module_utils._tools import build_directory, copy, file_system, files
from ansible_collections.platter.qemu.plugins.module_utils._tools.image_lock import image_lock
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg, image_node


class Converter:
    """Imports and rewrites; what it makes is published by C(publisher)."""

    def __init__(self, qemu_img: QemuImg, publisher: publish.Publisher) -> None:
        self._qemu_img = qemu_img
        self._publisher = publisher

    def import_node(
        self,
        spec: ImageSpec,
        action: actions.ImportImage,
        reading: state.ImageReading,
        node: t.Mapping[str, t.Any],
        record: t.Dict[str, t.Any],
        source: t.Optional[str] = None,
        verify: t.Callable[[], None] = lambda: None,
        *,
        size: int,
    ) -> t.Dict[str, t.Any]:
        """Carry out C(action) from C(node), of C(size) bytes, which has passed the gate. C(record): what to remember of it.

        A local C(source) file of the right form is copied, which may cost nothing (reflink). C(verify) raises
        RefusedError when the source did not stay what it was; it is asked before the new image gets its name.
        """
        if reading.kind == "block":
            return self._import_to_device(spec, action, reading, node, size, verify)
        with build_directory.BuildDirectory(spec.path, another_name=bool(reading.members)) as build:
            method = self._fill(spec, action, node, build, source, size)
            self._grow(spec, action, build.path)
            verify()
            notes = self._publish(spec, action, build, reading, {"source": record})
        return dict(notes, method=method)

    def _publish(
        self,
        spec: ImageSpec,
        action: t.Union[actions.ImportImage, actions.RewriteImage],
        build: build_directory.BuildDirectory,
        reading: state.ImageReading,
        record: t.Dict[str, t.Any],
    ) -> t.Dict[str, t.Any]:
        leftovers.note_old_members(build.directory, spec.path, reading.members)
        try:
            notes = self._publisher.publish(spec, action, build, reading, record)
            data_file.remove_data_file(spec.name, reading.own_data_file)
            return notes
        finally:  # also when it failed behind the step that counts
            build.keep = not leftovers.forget_old_members(spec.path, build.directory)

    def _import_to_device(
        self,
        spec: ImageSpec,
        action: actions.ImportImage,
        reading: state.ImageReading,
        node: t.Mapping[str, t.Any],
        size: int,
        verify: t.Callable[[], None],
    ) -> t.Dict[str, t.Any]:
        from ansible_collections.platter.qemu.plugins.module_utils._tools import unfinished

        needed = self._space_needed(spec.import_secrets, node, action.format)
        if needed > reading.length:
            raise space.no_space(spec, needed, reading.length)
        with build_directory.BuildDirectory(file_system.build_place(spec.path)) as build:
            node = self._large_enough(action, node, build, size)
            with unfinished.filling(spec.path):
                self._convert(spec, action, node, spec.path, action.options)
                self._grow(spec, action, spec.path)
                if action.replaces and action.format == "raw":  # the end of a longer disk is no part of the new one
                    copy.zero_from(spec.path, size)
                files.fsync_path(spec.path)
                verify_written(spec, verify)
        return {"method": "convert"}

    def _fill(
        self,
        spec: ImageSpec,
        action: actions.ImportImage,
        node: t.Mapping[str, t.Any],
        build: build_directory.BuildDirectory,
        source: t.Optional[str],
        size: int,
    ) -> str:
        if source and self._copy_suffices(spec, action, source):
            facts = files.file_facts(source)
            space.require_space(spec, facts.most_allocated)
            return str(copy.copy_file(source, build.path, find_zeros=facts.kind == "block").method)
        space.require_space(spec, self._space_needed(spec.import_secrets, node, action.format))
        self._convert(spec, action, self._large_enough(action, node, build, size), build.path, action.options)
        return "convert"

    def _large_enough(
        self, action: actions.ImportImage, node: t.Mapping[str, t.Any], build: build_directory.BuildDirectory, size: int
    ) -> t.Mapping[str, t.Any]:
        """C(node), of C(size) bytes, as large as the new image where that cannot be resized afterwards."""
        if features.FEATURES[action.format].grow:
            return node
        return self._resized_view(action.virtual_size, node, size, build) or node

    @staticmethod
    def _copy_suffices(spec: ImageSpec, action: actions.ImportImage, source: str) -> bool:
        """The source's bytes are an image of the asked format and options already."""
        header = image.look_at(source, action.source.format).header
        if header is None or action.source.format != action.format or action.compressed or spec.encryption:
            return False
        if header.references or header.extents or header.encrypted:
            return False
        return all(header.options.get(name) == value for name, value in action.options)

    def _space_needed(self, secrets: t.List[t.Tuple[str, str]], node: t.Mapping[str, t.Any], format_name: str) -> int:
        """Bytes that the image may come to need: measured where QEMU can, else as if it were qcow2."""
        target = format_name if format_name in ("qcow2", "raw") else "qcow2"
        return int(self._qemu_img.measure(node, target, secrets)["required"])

    def _convert(
        self,
        spec: ImageSpec,
        action: t.Union[actions.ImportImage, actions.RewriteImage],
        node: t.Mapping[str, t.Any],
        path: str,
        options: state.Pairs,
    ) -> None:
        compressed, device = action.compressed, files.file_facts(path).kind == "block"
        if compressed and action.format == "qcow2" and not _says_compression(options):
            options = (*options, ("compression_type", "zstd"))
        self._qemu_img.convert(
            node,
            path,
            action.format,
            options=create_arguments(spec, action.format, options),
            compressed=compressed or dict(options).get("subformat") == "streamOptimized",
            parallel=compressed,
            direct=device or file_system.direct_io_works(os.path.dirname(path)),
            existing=device and action.format == "raw",
            backing=(action.backing.path, str(action.backing.format)) if action.backing else None,
            secrets=spec.import_secrets if isinstance(action, actions.ImportImage) else spec.secrets,
        )
        open_with_qemu(self._qemu_img, spec, action.format, path)

    def _grow(self, spec: ImageSpec, action: actions.ImportImage, path: str) -> None:
        header = image.look_at(path, action.format).header
        if action.virtual_size is None or header is None or header.virtual_size == action.virtual_size:
            return
        node = file_node(spec, action.format, path)
        shrink = header.virtual_size > action.virtual_size
        self._qemu_img.resize(node, action.virtual_size, shrink=shrink, secrets=spec.secrets)

    # --- rewriting

    def rewrite(
        self, spec: ImageSpec, action: actions.RewriteImage, reading: state.ImageReading, old_size: int
    ) -> t.Dict[str, t.Any]:
        """Carry out C(action): the new file shows the guest the same, which is compared before it takes the name."""
        file = {"driver": "file", "filename": spec.path}
        old, _secrets = secret.opened_node(spec, t.cast(Header, reading.header), file)
        space.require_space(spec, self._space_needed(spec.secrets, old, action.format))
        with image_lock(spec.path), build_directory.BuildDirectory(
            spec.path, another_name=bool(reading.members)
        ) as build:
            node = self._resized_view(action.virtual_size, old, old_size, build) or old
            options = action.options + _kept(spec, action, reading, old_size)
            self._convert(spec, action, node, build.path, tuple(sorted(options)))
            self._prove_equal(spec, action, node, build.path)
            self._name_backing(spec, action, build.path)
            return self._publish(spec, action, build, reading, dict(reading.record))

    def _resized_view(
        self, size: t.Optional[int], old: t.Mapping[str, t.Any], old_size: int, build: build_directory.BuildDirectory
    ) -> t.Optional[t.Dict[str, t.Any]]:
        """Formats that cannot be resized are read through an empty overlay of the new size."""
        if size is None or size == old_size:
            return None
        overlay = build.spare("view.qcow2")
        self._qemu_img.create(overlay, "qcow2", size)
        return dict(image_node("qcow2", {"driver": "file", "filename": overlay}), backing=dict(old))

    def _prove_equal(
        self, spec: ImageSpec, action: actions.RewriteImage, node: t.Mapping[str, t.Any], path: str
    ) -> None:
        if not self._qemu_img.compare(node, file_node(spec, action.format, path), secrets=spec.secrets):
            raise errors.FailedError(
                "failed: the rewritten copy of %s is not equal to it. The image is unchanged." % spec.path
            )

    def _name_backing(self, spec: ImageSpec, action: actions.RewriteImage, path: str) -> None:
        """Only now: a relative name leads nowhere from the build directory."""
        if action.backing and action.backing.name != action.backing.path:
            node = file_node(spec, action.format, path)
            self._qemu_img.unsafe_rebase(node, action.backing.name, str(action.backing.format), spec.secrets)


def _kept(spec: ImageSpec, action: actions.RewriteImage, reading: state.ImageReading, old_size: int) -> state.Pairs:
    """What the new file takes over. Its owner can write the record of the old one: that it had all of its bytes is only
    believed if it has.
    """
    kept = difference.kept_options(action.options, action.format, reading)
    if files.file_facts(spec.path).allocated >= old_size:
        return kept
    return tuple(pair for pair in kept if pair not in (("preallocation", "falloc"), ("preallocation", "full")))


def verify_written(spec: ImageSpec, verify: t.Callable[[], None]) -> None:
    """A device or an export has been written when that is found, so it is no refusal any more."""
    try:
        verify()
    except errors.RefusedError as exc:
        raise errors.FailedError(
            "failed: the source of %s has changed while it was read: what is there now is not to be used." % spec.path,
            reason=exc.reason,
            evidence=exc.facts["evidence"],
        ) from exc


def _says_compression(options: state.Pairs) -> bool:
    asked = dict(options)
    return "compression_type" in asked or asked.get("compat") == "0.10"
