# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Makes images in NBD exports. There is no second name to build under: what is written is there at once, and is read
back and compared afterwards (C(execute.py)).
"""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.place import Place
from ansible_collections.platter.qemu.plugins.module_utils._image import actions, build, convert, place_observe, state
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import process, qemu_io
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import Node, QemuImg, json_filename


class PlaceWriter:
    """Carries out what a plan for an export can hold: making an image, and importing one."""

    def __init__(self, run_command: process.RunCommand, qemu_img: QemuImg) -> None:
        self._run_command = run_command
        self._qemu_img = qemu_img

    def carry_out(
        self, spec: ImageSpec, action: t.Union[actions.CreateImage, actions.ImportImage], reading: state.ImageReading
    ) -> t.Dict[str, t.Any]:
        """Carry out C(action); returns notes for the result."""
        if isinstance(action, actions.ImportImage):
            self._import(spec, action, reading)
        else:
            self._format(spec, action)
        qemu_io.flush(self._run_command, place_observe.target_node(spec, "raw"))
        return {"method": "convert"} if isinstance(action, actions.ImportImage) else {}

    def _format(self, spec: ImageSpec, action: t.Union[actions.CreateImage, actions.ImportImage]) -> None:
        if action.format != "raw":
            options = build.create_arguments(spec, action.format, action.options)
            uri = t.cast(str, t.cast(Place, spec.place).uri())
            self._qemu_img.create(uri, action.format, action.virtual_size, options=options)

    def _import(self, spec: ImageSpec, action: actions.ImportImage, reading: state.ImageReading) -> None:
        with place_observe.open_source(spec, self._qemu_img) as source:
            self._refuse_bad_source(spec, action, source.node, reading.length)
            source.refuse_disturbed()
            self._format(spec, action)
            target = json_filename(place_observe.target_node(spec, action.format))
            self._qemu_img.convert(source.node, target, action.format, existing=True)
            convert.verify_written(spec, source.refuse_disturbed)

    def _refuse_bad_source(self, spec: ImageSpec, action: actions.ImportImage, node: Node, room: int) -> None:
        from ansible_collections.platter.qemu.plugins.module_utils._image.fetch import refuse_damaged

        if action.source.place and action.source.place.path:
            refuse_damaged(self._qemu_img, spec, node)
        if action.format != "raw":
            needed = int(self._qemu_img.measure(node, "qcow2")["required"])
            place_observe.refuse_too_little_room(spec, needed, room)
