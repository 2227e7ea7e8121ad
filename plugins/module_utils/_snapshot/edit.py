# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Changes an image that nobody has open: its internal snapshots and its bitmaps, by qemu-img."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._inspect import luks_secret
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import actions, state
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import files
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg

Notes = t.Dict[str, t.Any]


class Editor:
    """One method per action; each ends with the image on stable storage and returns notes for the result."""

    def __init__(self, qemu_img: QemuImg) -> None:
        self._qemu_img = qemu_img

    def _opened(
        self, spec: SnapshotSpec, path: str, reading: state.SnapshotReading
    ) -> t.Tuple[t.Dict[str, t.Any], luks_secret.Secrets]:
        """(the node of the image, the secrets that it takes)"""
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
        return luks_secret.opened_node(t.cast(Header, reading.header), files.local_node(facts), spec.secrets)

    def take(self, spec: SnapshotSpec, action: actions.TakeSnapshot, reading: state.SnapshotReading) -> Notes:
        """Take an internal snapshot."""
        node, secrets = self._opened(spec, action.path, reading)
        self._qemu_img.take_snapshot(node, action.point.name, secrets)
        return _durable(action.path)

    def delete(self, spec: SnapshotSpec, action: actions.DeleteSnapshot, reading: state.SnapshotReading) -> Notes:
        """Delete an internal snapshot, by its name, which the planner knows to be the only one."""
        node, secrets = self._opened(spec, action.path, reading)
        self._qemu_img.delete_snapshot(node, action.point.name, secrets)
        return _durable(action.path)

    def revert(self, spec: SnapshotSpec, action: actions.RevertImage, reading: state.SnapshotReading) -> Notes:
        """Go back to an internal snapshot, by its ID."""
        node, secrets = self._opened(spec, action.path, reading)
        self._qemu_img.revert_to_snapshot(node, action.point.id, secrets)
        return _durable(action.path)

    def add_bitmap(self, spec: SnapshotSpec, action: actions.AddBitmap, reading: state.SnapshotReading) -> Notes:
        """Add a bitmap, and merge others into it, in one opening of the image."""
        changes = ["--add"] + (["-g", str(action.granularity)] if action.granularity else [])
        for source in action.sources:
            changes += ["--merge", source]
        changes += [] if action.bitmap.enabled else ["--disable"]
        node, secrets = self._opened(spec, action.path, reading)
        self._qemu_img.change_bitmap(node, action.bitmap.name, changes, secrets)
        return _durable(action.path)

    def remove_bitmap(self, spec: SnapshotSpec, action: actions.RemoveBitmap, reading: state.SnapshotReading) -> Notes:
        """Remove a bitmap."""
        node, secrets = self._opened(spec, action.path, reading)
        self._qemu_img.change_bitmap(node, action.name, ["--remove"], secrets)
        return _durable(action.path)

    def switch_bitmap(self, spec: SnapshotSpec, action: actions.SwitchBitmap, reading: state.SnapshotReading) -> Notes:
        """Enable or disable a bitmap."""
        change = "--enable" if action.enabled else "--disable"
        node, secrets = self._opened(spec, action.path, reading)
        self._qemu_img.change_bitmap(node, action.name, [change], secrets)
        return _durable(action.path)


def _durable(path: str) -> Notes:
    files.fsync_path(path)
    return {}
