# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a killed run has left of a merge that was complete but for the removal of the overlay, where a link tells of it."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._inspect.image import look_at
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import clones, layer_records, target
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import records, walk


def merged_overlay(image: str, path: str) -> t.Optional[str]:
    """The overlay that a killed run has merged into C(path), all but removing it; None if there is none.

    A symbolic link is led to the file below once the merge is complete: what the overlay holds must not be merged
    again, as the guest may have written to the file below since. Others can lead links and write attributes too: so the
    file must say that the merge was complete, and what would be removed must be an overlay of ours on it.
    """
    if not os.path.islink(image) or os.path.realpath(image) != path:
        return None
    snapshot = layer_records.snapshot_in(records.read_record(path))
    merging = str(snapshot.get("merging") or "")
    if not snapshot.get("merged") or not _is_overlay_of_ours(merging, path):
        return None
    return merging if layer_records.is_copied(path, merging) else None


def _is_overlay_of_ours(overlay: str, base: str) -> bool:
    try:
        seen = look_at(overlay, "qcow2", follow=False)
    except (errors.EngineError, OSError, ValueError):  # the last for what no path can be
        return False
    return "made" in layer_records.snapshot_in(seen.record) and target.base_of(overlay, seen) == base


def end_left_merge(spec: SnapshotSpec) -> t.List[str]:
    """Under our locks: what a killed run has left of a complete merge is removed. Returns what was.

    It stays where its directory is another user's. Raises FailedError where a VM has it open, or something is built on it.
    """
    path = os.path.realpath(spec.image)
    overlay = merged_overlay(spec.image, path)
    if overlay is None or walk.unsafe_mover(os.path.realpath(os.path.dirname(overlay))):
        return []
    with clones.unopened(overlay):
        clones.refuse_built_in(overlay, {os.path.dirname(path), *spec.overlay_directories})
        layer_records.remove_layer(overlay)
    layer_records.end_merge(path)
    return [overlay]
