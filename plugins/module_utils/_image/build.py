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

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._formats import features
from ansible_collections.platter.qemu.plugins.module_utils._formats.options import to_argument
from ansible_collections.platter.qemu.plugins.module_utils._image import actions, data_file, publish, state
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import members
from ansible_collections.platter.qemu.plugins.module_utils._tools import build_directory, files, sparse
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg, image_node

#: an empty image larger than this is made by qemu-img each time
LARGEST_TEMPLATE = 4 << 20


class Builder:
    """Makes empty images and overlays."""

    def __init__(self, qemu_img: QemuImg, publisher: publish.Publisher) -> None:
        self._qemu_img = qemu_img
        self._publisher = publisher
        #: bytes of empty qcow2 images of this run by what they are made of: QEMU writes the same each time
        self._templates: t.Dict[t.Any, bytes] = {}

    # --- creating

    def create(self, spec: ImageSpec, action: actions.CreateImage, reading: state.ImageReading) -> t.Dict[str, t.Any]:
        """Carry out C(action); returns notes for the result."""
        if reading.kind == "block":
            return self._create_on_device(spec, action)
        with data_file.claimed(spec), build_directory.BuildDirectory(spec.path) as build:
            self._make_empty(spec, action, build.path)
            self._publisher.publish(spec, action, build, reading, {})
        return {}

    def _make_empty(self, spec: ImageSpec, action: actions.CreateImage, path: str) -> None:
        key = self._template_key(spec, action)
        template = self._templates.get(key) if key else None
        if template:
            _write_file(path, template)
            return
        self._qemu_create(spec, action, path)
        if members.is_split(spec.option("subformat")):
            open_with_qemu(self._qemu_img, spec, action.format, path)
        if key and files.file_facts(path).length <= LARGEST_TEMPLATE:
            with open(path, "rb") as stream:
                self._templates[key] = stream.read()

    @staticmethod
    def _template_key(spec: ImageSpec, action: actions.CreateImage) -> t.Optional[t.Tuple[t.Any, ...]]:
        """An empty qcow2 image holds nothing of its own (no UUID, no key), so that its bytes can serve for the next."""
        options = dict(action.options)
        if action.format != "qcow2" or "encrypt_format" in options or "data_file" in options:
            return None
        of_the_file = options.get("nocow") or options.get("extent_size_hint")  # set by qemu-img, on the file itself
        if options.get("preallocation", "off") != "off" or of_the_file or spec.encryption:
            return None
        return (os.path.dirname(spec.name), action.virtual_size, action.options, action.backing)

    def _qemu_create(self, spec: ImageSpec, action: actions.CreateImage, path: str) -> None:
        backing = (action.backing.name, t.cast(str, action.backing.format)) if action.backing else None
        self._qemu_img.create(
            path,
            action.format,
            action.virtual_size,
            options=create_arguments(spec, action.format, action.options),
            backing=backing,
            # a relative name would be looked for in the build directory; the base was inspected before
            open_backing=False,
            secrets=spec.secrets,
        )

    def _create_on_device(self, spec: ImageSpec, action: actions.CreateImage) -> t.Dict[str, t.Any]:
        self._qemu_create(spec, action, spec.path)
        files.fsync_path(spec.path)
        return {}


def create_arguments(spec: ImageSpec, format_name: str, options: state.Pairs) -> t.List[str]:
    """C(-o) pieces for create and convert; an encrypted image takes the secret object sec0."""
    arguments = [to_argument(name, value) for name, value in options]
    if spec.encryption and format_name == "luks":
        arguments.append("key-secret=sec0")
    elif spec.encryption:
        arguments.append("encrypt.key-secret=sec0")
    return arguments


def file_node(spec: ImageSpec, format_name: str, path: str) -> t.Dict[str, t.Any]:
    """The node of an image of this task, also on a device; an encrypted one is opened by the secret object sec0."""
    protocol = files.local_node(files.file_facts(path))
    return image_node(format_name, protocol, "sec0" if spec.encryption else None)


def open_with_qemu(qemu_img: QemuImg, spec: ImageSpec, format_name: str, path: str) -> None:
    """QEMU must be able to read what it has made: on a full disk it may end well without (split VMDK, QEMU 7.2)."""
    node = file_node(spec, format_name, path)
    if not features.FEATURES[format_name].check:
        qemu_img.info(node, secrets=spec.secrets)
        return
    report = qemu_img.check(node, secrets=spec.secrets)
    if report.get("corruptions") or report.get("check-errors"):
        raise errors.FailedError("failed: qemu-img check finds the new image for %s damaged: %s." % (spec.path, report))


def _write_file(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        sparse.write_sparse(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))
    finally:
        os.close(descriptor)
