# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Makes images in NBD exports. There is no second name to build under: what is written is there at once, and is read
back and compared afterwards (C(execute.py)).

QEMU has an export open as raw bytes only. Whoever answers for it, also somebody on the way, could show QEMU another header
than it has written, with a data file of this host: QEMU would write to that. So other images are built in a file here, of
which the bytes are copied.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._image import (
    actions,
    build,
    convert,
    place_observe,
    space,
    state,
)
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import (
    build_directory,
    file_system,
    files,
    process,
    qemu_io,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg, image_node, json_filename

#: the largest cluster of a qcow2 image: what is left of the last one is written too, as zeros
_CLUSTER = 2 << 20
_Making = t.Union[actions.CreateImage, actions.ImportImage]


class PlaceWriter:
    """Carries out what a plan for an export can hold: making an image, and importing one."""

    def __init__(self, run_command: process.RunCommand, qemu_img: QemuImg) -> None:
        self._run_command = run_command
        self._qemu_img = qemu_img

    def carry_out(self, spec: ImageSpec, action: _Making, reading: state.ImageReading) -> t.Dict[str, t.Any]:
        """Carry out C(action); returns notes for the result."""
        if action.format != "raw":
            self._build(spec, action, reading.length)
        elif isinstance(action, actions.ImportImage):
            self._import(spec, action)
        qemu_io.flush(self._run_command, place_observe.target_node(spec))
        return {"method": "convert"} if isinstance(action, actions.ImportImage) else {}

    def _import(self, spec: ImageSpec, action: actions.ImportImage) -> None:
        with place_observe.open_source(spec, self._qemu_img) as source:
            self._refuse_damaged(spec, action, source)
            source.refuse_disturbed()
            self._qemu_img.convert(source.node, json_filename(place_observe.target_node(spec)), "raw", existing=True)
            convert.verify_written(spec, source.refuse_disturbed)

    # --- other formats than raw

    def _build(self, spec: ImageSpec, action: _Making, room: int) -> None:
        with build_directory.BuildDirectory(file_system.build_place(spec.path)) as private:
            path = private.spare("image")
            if isinstance(action, actions.ImportImage):
                self._fill(spec, action, path, room)
            else:
                self._create(spec, action, path)
            self._put(spec, path, room)

    def _create(self, spec: ImageSpec, action: _Making, path: str) -> None:
        options = build.create_arguments(spec, action.format, action.options)
        self._qemu_img.create(path, action.format, action.virtual_size, options=options)

    def _fill(self, spec: ImageSpec, action: actions.ImportImage, path: str, room: int) -> None:
        with place_observe.open_source(spec, self._qemu_img) as source:
            self._refuse_damaged(spec, action, source)
            needed = int(self._qemu_img.measure(source.node, "qcow2")["required"])
            place_observe.refuse_too_little_room(spec, needed, room)
            space.require_space(spec, needed)
            self._create(spec, action, path)
            target = json_filename(build.file_node(spec, action.format, path))
            self._qemu_img.convert(source.node, target, action.format, existing=True)
            source.refuse_disturbed()

    def _put(self, spec: ImageSpec, path: str, room: int) -> None:
        length = os.path.getsize(path)
        place_observe.refuse_too_little_room(spec, length, room)
        os.truncate(path, min(-(-length // _CLUSTER) * _CLUSTER, room))
        bytes_of_it = image_node("raw", files.local_node(files.file_facts(path)))
        self._qemu_img.convert(bytes_of_it, json_filename(place_observe.target_node(spec)), "raw", existing=True)

    def _refuse_damaged(self, spec: ImageSpec, action: actions.ImportImage, source: place_observe.OpenSource) -> None:
        from ansible_collections.platter.qemu.plugins.module_utils._image.fetch import refuse_damaged

        if action.source.place and action.source.place.path:
            refuse_damaged(self._qemu_img, spec, source.node)
