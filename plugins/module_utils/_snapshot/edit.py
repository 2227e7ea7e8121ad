# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Changes an image that nobody has open: its internal snapshots and its bitmaps, by qemu-img."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import actions, state
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import files
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg, image_node

Notes = t.Dict[str, t.Any]


class Editor:
    """One method per action; each ends with the image on stable storage and returns notes for the result."""

    def __init__(self, qemu_img: QemuImg) -> None:
        self._qemu_img = qemu_img

    def _node(self, spec: SnapshotSpec, path: str, reading: state.SnapshotReading) -> t.Dict[str, t.Any]:
        facts = files.file_facts(path, follow=False)
        if facts.identity != reading.identity:
            raise errors.RefusedError(
                "a change",
                spec.image,
                "another file has taken its place",
                reason="changed_meanwhile",
                way_out="Run the task again.",
                joined="of",
            )
        format_name = reading.header.format if reading.header else spec.format
        return image_node(format_name, files.local_node(facts))

    def take(self, spec: SnapshotSpec, action: actions.TakeSnapshot, reading: state.SnapshotReading) -> Notes:
        """Take an internal snapshot."""
        self._qemu_img.take_snapshot(self._node(spec, action.path, reading), action.point.name)
        return _durable(action.path)

    def delete(self, spec: SnapshotSpec, action: actions.DeleteSnapshot, reading: state.SnapshotReading) -> Notes:
        """Delete an internal snapshot, by its name, which the planner knows to be the only one."""
        self._qemu_img.delete_snapshot(self._node(spec, action.path, reading), action.point.name)
        return _durable(action.path)

    def revert(self, spec: SnapshotSpec, action: actions.RevertImage, reading: state.SnapshotReading) -> Notes:
        """Go back to an internal snapshot, by its ID."""
        self._qemu_img.revert_to_snapshot(self._node(spec, action.path, reading), action.point.id)
        return _durable(action.path)

    def add_bitmap(self, spec: SnapshotSpec, action: actions.AddBitmap, reading: state.SnapshotReading) -> Notes:
        """Add a bitmap, and merge others into it, in one opening of the image."""
        changes = ["--add"] + (["-g", str(action.granularity)] if action.granularity else [])
        for source in action.sources:
            changes += ["--merge", source]
        changes += [] if action.bitmap.enabled else ["--disable"]
        self._qemu_img.change_bitmap(self._node(spec, action.path, reading), action.bitmap.name, changes)
        return _durable(action.path)

    def remove_bitmap(self, spec: SnapshotSpec, action: actions.RemoveBitmap, reading: state.SnapshotReading) -> Notes:
        """Remove a bitmap."""
        self._qemu_img.change_bitmap(self._node(spec, action.path, reading), action.name, ["--remove"])
        return _durable(action.path)

    def switch_bitmap(self, spec: SnapshotSpec, action: actions.SwitchBitmap, reading: state.SnapshotReading) -> Notes:
        """Enable or disable a bitmap."""
        change = "--enable" if action.enabled else "--disable"
        self._qemu_img.change_bitmap(self._node(spec, action.path, reading), action.name, [change])
        return _durable(action.path)


def _durable(path: str) -> Notes:
    files.fsync_path(path)
    return {}
