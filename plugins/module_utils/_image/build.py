# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Makes whole images: built in a private directory beside their place, verified, made durable, then given their
name.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import (
    FailedError,
    RefusedError,
    ToolError,
)
from ansible_collections.platter.qemu.plugins.module_utils._core.size import human
from ansible_collections.platter.qemu.plugins.module_utils._formats.features import FEATURES
from ansible_collections.platter.qemu.plugins.module_utils._formats.options import to_argument
from ansible_collections.platter.qemu.plugins.module_utils._image.actions import CreateImage, ImportImage, RewriteImage
from ansible_collections.platter.qemu.plugins.module_utils._image.difference import kept_options
from ansible_collections.platter.qemu.plugins.module_utils._image.leftovers import forget_old_members, note_old_members
from ansible_collections.platter.qemu.plugins.module_utils._image.publish import Publisher
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._image.state import ImageReading, Pairs
from ansible_collections.platter.qemu.plugins.module_utils._inspect.image import look_at
from ansible_collections.platter.qemu.plugins.module_utils._inspect.members import is_split
from ansible_collections.platter.qemu.plugins.module_utils._tools.copy import copy_file
from ansible_collections.platter.qemu.plugins.module_utils._tools.files import (
    BuildDirectory,
    direct_io_works,
    file_facts,
    free_bytes,
    fsync_path,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools.image_lock import image_lock
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg, image_node
from ansible_collections.platter.qemu.plugins.module_utils._tools.sparse import write_sparse

#: QEMU gives up on timing its key derivation on a busy machine; seen in 5 of 20 creations on 7.2
_TIMING_TRIES = 3
_TIMING_MESSAGE = "Unable to get accurate CPU usage"
#: left free on a file system, so that a prediction that is a little short does not fill it
SPACE_RESERVE = 16 << 20
#: an empty image larger than this is made by qemu-img each time
LARGEST_TEMPLATE = 4 << 20
Making = t.Union[CreateImage, ImportImage, RewriteImage]


class Builder:
    """Builds and publishes images. C(attributes): sets owner, mode and context of finished files."""

    def __init__(self, qemu_img: QemuImg, attributes: t.Any) -> None:
        self._qemu_img = qemu_img
        self._publisher = Publisher(attributes)
        #: bytes of empty qcow2 images of this run by what they are made of: QEMU writes the same each time
        self._templates: t.Dict[t.Any, bytes] = {}

    # --- creating

    def create(self, spec: ImageSpec, action: CreateImage, reading: ImageReading) -> t.Dict[str, t.Any]:
        """Carry out C(action); returns notes for the result."""
        if reading.kind == "block":
            return self._create_on_device(spec, action)
        with BuildDirectory(spec.path) as build:
            self._make_empty(spec, action, build.path)
            self._publisher.publish(spec, action, build, reading, {})
        return {}

    def _make_empty(self, spec: ImageSpec, action: CreateImage, path: str) -> None:
        key = self._template_key(spec, action)
        template = self._templates.get(key) if key else None
        if template:
            _write_file(path, template)
            return
        self._qemu_create(spec, action, path)
        if is_split(spec.option("subformat")):
            self._open(spec, action.format, path)
        if key and file_facts(path).length <= LARGEST_TEMPLATE:
            with open(path, "rb") as stream:
                self._templates[key] = stream.read()

    @staticmethod
    def _template_key(spec: ImageSpec, action: CreateImage) -> t.Optional[t.Tuple[t.Any, ...]]:
        """An empty qcow2 image holds nothing of its own (no UUID, no key), so that its bytes can serve for the next."""
        options = dict(action.options)
        if action.format != "qcow2" or "encrypt_format" in options or "data_file" in options:
            return None
        if options.get("preallocation", "off") != "off" or options.get("nocow") or spec.encryption:
            return None
        return (os.path.dirname(spec.path), action.virtual_size, action.options, action.backing)

    def _qemu_create(self, spec: ImageSpec, action: CreateImage, path: str) -> None:
        backing = (action.backing.name, t.cast(str, action.backing.format)) if action.backing else None
        self._with_luck(
            lambda: self._qemu_img.create(
                path,
                action.format,
                action.virtual_size,
                options=self._arguments(spec, action.format, action.options),
                backing=backing,
                # a relative name would be looked for in the build directory; the base was inspected before
                open_backing=False,
                secrets=spec.secrets,
            )
        )

    @staticmethod
    def _with_luck(make: t.Callable[[], None]) -> None:
        for _try in range(_TIMING_TRIES - 1):
            try:
                make()
                return
            except ToolError as exc:
                if _TIMING_MESSAGE not in exc.stderr:
                    raise
        make()

    def _arguments(self, spec: ImageSpec, format_name: str, options: Pairs) -> t.List[str]:
        arguments = [to_argument(name, value) for name, value in options]
        if spec.encryption and format_name == "luks":
            arguments.append("key-secret=sec0")
        elif spec.encryption:
            arguments += ["encrypt.key-secret=sec0"] + (
                [] if spec.option("encrypt_format") else ["encrypt.format=luks"]
            )
        return arguments

    def _create_on_device(self, spec: ImageSpec, action: CreateImage) -> t.Dict[str, t.Any]:
        self._qemu_create(spec, action, spec.path)
        fsync_path(spec.path)
        return {}

    # --- importing

    def import_file(
        self, spec: ImageSpec, action: ImportImage, reading: ImageReading, source: str, record: t.Dict[str, t.Any]
    ) -> t.Dict[str, t.Any]:
        """Carry out C(action) from the local file C(source), which has passed the gate. C(record): what to remember
        of it.
        """
        node = image_node(action.source.format, {"driver": "file", "filename": source})
        return self.import_node(spec, action, reading, node, record, source)

    def import_node(
        self,
        spec: ImageSpec,
        action: ImportImage,
        reading: ImageReading,
        node: t.Mapping[str, t.Any],
        record: t.Dict[str, t.Any],
        source: t.Optional[str] = None,
    ) -> t.Dict[str, t.Any]:
        """The same from any node; a local C(source) file of the right form is copied, which may cost nothing
        (reflink).
        """
        if reading.kind == "block":
            self._qemu_img.convert(node, spec.path, action.format, existing=True, direct=True, secrets=spec.secrets)
            fsync_path(spec.path)
            return {"method": "convert"}
        with BuildDirectory(spec.path) as build:
            method = self._fill(spec, action, node, build.path, source)
            self._grow(spec, action, build.path)
            notes = self._publisher.publish(spec, action, build, reading, {"source": record})
        return dict(notes, method=method)

    def _fill(
        self, spec: ImageSpec, action: ImportImage, node: t.Mapping[str, t.Any], path: str, source: t.Optional[str]
    ) -> str:
        if source and self._copy_suffices(spec, action, source):
            self._require_space(spec, file_facts(source).allocated)
            report = copy_file(source, path)
            return str(report.method)
        self._require_space(spec, self._space_needed(spec, node, action.format, source))
        self._convert(spec, action, node, path, action.options)
        return "convert"

    @staticmethod
    def _copy_suffices(spec: ImageSpec, action: ImportImage, source: str) -> bool:
        """The source's bytes are an image of the asked format and options already."""
        header = look_at(source, action.source.format).header
        if header is None or action.source.format != action.format or action.compressed or spec.encryption:
            return False
        if header.references or header.extents or header.encrypted:
            return False
        return all(header.options.get(name) == value for name, value in action.options)

    def _space_needed(
        self, spec: ImageSpec, node: t.Mapping[str, t.Any], format_name: str, source: t.Optional[str]
    ) -> int:
        """Bytes that the image may come to need: measured where QEMU can, else the source's own."""
        target = format_name if format_name in ("qcow2", "raw") else "qcow2"
        if source is None:
            return 0
        return int(self._qemu_img.measure(node, target, secrets=spec.secrets)["required"])

    def _require_space(self, spec: ImageSpec, needed: int) -> None:
        have = free_bytes(os.path.dirname(spec.path))
        if needed + SPACE_RESERVE > have:
            raise RefusedError(
                "a new image",
                spec.path,
                "it may need %s, and its file system has %s left" % (human(needed), human(have)),
                reason="would_exceed_space",
                way_out="Make room, or put the image elsewhere.",
                evidence={"needed_bytes": needed, "free_bytes": have},
            )

    def _convert(
        self,
        spec: ImageSpec,
        action: t.Union[ImportImage, RewriteImage],
        node: t.Mapping[str, t.Any],
        path: str,
        options: Pairs,
    ) -> None:
        compressed = action.compressed
        if compressed and action.format == "qcow2" and not _says_compression(options):
            options = (*options, ("compression_type", "zstd"))
        self._qemu_img.convert(
            node,
            path,
            action.format,
            options=self._arguments(spec, action.format, options),
            compressed=compressed or dict(options).get("subformat") == "streamOptimized",
            parallel=compressed,
            direct=direct_io_works(os.path.dirname(path)),
            backing=(action.backing.path, str(action.backing.format)) if action.backing else None,
            secrets=spec.secrets,
        )
        self._open(spec, action.format, path)

    def _open(self, spec: ImageSpec, format_name: str, path: str) -> None:
        """QEMU must be able to read what it has made: on a full disk it may end well without (split VMDK, QEMU 7.2)."""
        node = _node(spec, format_name, path)
        if not FEATURES[format_name].check:
            self._qemu_img.info(node, secrets=spec.secrets)
            return
        report = self._qemu_img.check(node, secrets=spec.secrets)
        if report.get("corruptions") or report.get("check-errors"):
            raise FailedError("failed: qemu-img check finds the new image for %s damaged: %s." % (spec.path, report))

    def _grow(self, spec: ImageSpec, action: ImportImage, path: str) -> None:
        header = look_at(path, action.format).header
        if action.virtual_size is None or header is None or header.virtual_size >= action.virtual_size:
            return
        node = image_node(action.format, {"driver": "file", "filename": path}, "sec0" if spec.encryption else None)
        self._qemu_img.resize(node, action.virtual_size)

    # --- rewriting

    def rewrite(
        self, spec: ImageSpec, action: RewriteImage, reading: ImageReading, old_size: int
    ) -> t.Dict[str, t.Any]:
        """Carry out C(action): the new file shows the guest the same, which is compared before it takes the name."""
        old = _node(spec, action.old_format, spec.path)
        self._require_space(spec, self._space_needed(spec, old, action.format, spec.path))
        with image_lock(spec.path), BuildDirectory(spec.path, another_name=bool(reading.members)) as build:
            node = self._resized_view(action, old, old_size, build) or old
            options = action.options + kept_options(action.options, action.format, reading)
            self._convert(spec, action, node, build.path, tuple(sorted(options)))
            self._prove_equal(spec, action, node, build.path)
            self._name_backing(spec, action, build.path)
            note_old_members(build.directory, reading.members)
            notes = self._publisher.publish(spec, action, build, reading, dict(reading.record))
            forget_old_members(spec.path, spec.format, build.directory)
        return notes

    def _resized_view(
        self, action: RewriteImage, old: t.Mapping[str, t.Any], old_size: int, build: BuildDirectory
    ) -> t.Optional[t.Dict[str, t.Any]]:
        """Formats that cannot be resized are read through an empty overlay of the new size."""
        if action.virtual_size == old_size:
            return None
        overlay = build.spare("view.qcow2")
        self._qemu_img.create(overlay, "qcow2", action.virtual_size)
        return dict(image_node("qcow2", {"driver": "file", "filename": overlay}), backing=dict(old))

    def _prove_equal(self, spec: ImageSpec, action: RewriteImage, node: t.Mapping[str, t.Any], path: str) -> None:
        if not self._qemu_img.compare(node, _node(spec, action.format, path), secrets=spec.secrets):
            raise FailedError(
                "failed: the rewritten copy of %s is not equal to it. The image is unchanged." % spec.path
            )

    def _name_backing(self, spec: ImageSpec, action: RewriteImage, path: str) -> None:
        """Only now: a relative name leads nowhere from the build directory."""
        if action.backing and action.backing.name != action.backing.path:
            node = _node(spec, action.format, path)
            self._qemu_img.unsafe_rebase(node, action.backing.name, str(action.backing.format))


def _node(spec: ImageSpec, format_name: str, path: str) -> t.Dict[str, t.Any]:
    return image_node(format_name, {"driver": "file", "filename": path}, "sec0" if spec.encryption else None)


def _says_compression(options: Pairs) -> bool:
    asked = dict(options)
    return "compression_type" in asked or asked.get("compat") == "0.10"


def _write_file(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_sparse(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))
    finally:
        os.close(descriptor)
