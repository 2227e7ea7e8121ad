# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Changes an image that nobody has open: its internal snapshots and its bitmaps, by qemu-img."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import RefusedError
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.actions import (
    AddBitmap,
    DeleteSnapshot,
    RemoveBitmap,
    RevertImage,
    SwitchBitmap,
    TakeSnapshot,
)
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import SnapshotReading
from ansible_collections.platter.qemu.plugins.module_utils._tools.files import file_facts, fsync_path, local_node
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg, image_node

Notes = t.Dict[str, t.Any]


class Editor:
    """One method per action; each ends with the image on stable storage and returns notes for the result."""

    def __init__(self, qemu_img: QemuImg) -> None:
        self._qemu_img = qemu_img

    def _node(self, spec: SnapshotSpec, path: str, reading: SnapshotReading) -> t.Dict[str, t.Any]:
        facts = file_facts(path, follow=False)
        if facts.identity != reading.identity:
            raise RefusedError(
                "a change",
                spec.image,
                "another file has taken its place",
                reason="changed_meanwhile",
                way_out="Run the task again.",
            )
        format_name = reading.header.format if reading.header else spec.format
        return image_node(format_name, local_node(facts))

    def take(self, spec: SnapshotSpec, action: TakeSnapshot, reading: SnapshotReading) -> Notes:
        """Take an internal snapshot."""
        self._qemu_img.take_snapshot(self._node(spec, action.path, reading), action.point.name)
        return _durable(action.path)

    def delete(self, spec: SnapshotSpec, action: DeleteSnapshot, reading: SnapshotReading) -> Notes:
        """Delete an internal snapshot, by its name, which the planner knows to be the only one."""
        self._qemu_img.delete_snapshot(self._node(spec, action.path, reading), action.point.name)
        return _durable(action.path)

    def revert(self, spec: SnapshotSpec, action: RevertImage, reading: SnapshotReading) -> Notes:
        """Go back to an internal snapshot, by its ID."""
        self._qemu_img.revert_to_snapshot(self._node(spec, action.path, reading), action.point.id)
        return _durable(action.path)

    def add_bitmap(self, spec: SnapshotSpec, action: AddBitmap, reading: SnapshotReading) -> Notes:
        """Add a bitmap, and merge others into it, in one opening of the image."""
        changes = ["--add"] + (["-g", str(action.granularity)] if action.granularity else [])
        for source in action.sources:
            changes += ["--merge", source]
        changes += [] if action.bitmap.enabled else ["--disable"]
        self._qemu_img.change_bitmap(self._node(spec, action.path, reading), action.bitmap.name, changes)
        return _durable(action.path)

    def remove_bitmap(self, spec: SnapshotSpec, action: RemoveBitmap, reading: SnapshotReading) -> Notes:
        """Remove a bitmap."""
        self._qemu_img.change_bitmap(self._node(spec, action.path, reading), action.name, ["--remove"])
        return _durable(action.path)

    def switch_bitmap(self, spec: SnapshotSpec, action: SwitchBitmap, reading: SnapshotReading) -> Notes:
        """Enable or disable a bitmap."""
        change = "--enable" if action.enabled else "--disable"
        self._qemu_img.change_bitmap(self._node(spec, action.path, reading), action.name, [change])
        return _durable(action.path)


def _durable(path: str) -> Notes:
    fsync_path(path)
    return {}
