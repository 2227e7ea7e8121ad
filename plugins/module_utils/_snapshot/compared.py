# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Merges that a VM has ended in the middle of: whether the two files show the same, so that it does not matter where it was."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, not_begun
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import (
    layer_records,
    layers,
    merge_actions,
    plan_unfinished,
    state,
)
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import files
from ansible_collections.platter.qemu.plugins.module_utils._tools.image_lock import image_lock
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg, image_node


def refusal(item: Item, qemu_img: QemuImg) -> t.Optional[errors.EngineError]:
    """For plans that are right only if two files show the same. Both are read, which takes its time. Read-only."""
    for action in item.plan:
        if not isinstance(action, merge_actions.CommitOverlay) or not action.compared:
            continue
        try:
            if not qemu_img.compare(_node("qcow2", action.overlay), _node(action.base_format, action.base)):
                return plan_unfinished.ended_in_between(item.spec, action.overlay, action.base)
        except errors.EngineError as exc:
            return not_begun(exc)
    return None


def _node(format: str, path: str) -> t.Dict[str, t.Any]:
    return image_node(format, files.local_node(files.file_facts(path, follow=False)))


def note(spec: SnapshotSpec, action: merge_actions.CommitOverlay, reading: state.SnapshotReading) -> None:
    """Under the lock of the overlay: what was compared is as it was then, and it is noted that all is in the base."""
    with image_lock(action.base, readers=False):
        for path in (action.overlay, action.base):
            if files.file_facts(path).stamp != reading.layers[path].stamp:
                raise layers.changed_meanwhile(spec, "somebody has written to %s" % path)
        files.fsync_path(action.base)
        layer_records.note_copied(action.base)
