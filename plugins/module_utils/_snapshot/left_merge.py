# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""How what is remembered of layers is to be read, as killed runs may have left it: what has begun and was not to be, and what
was all done but the last step, such as a merge whose overlay is still there.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._snapshot import layer_records, merge_stages, second_names
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.family import LEAVING
from ansible_collections.platter.qemu.plugins.module_utils._tools import walk

Record = t.Mapping[str, t.Any]


def as_seen(record: Record, path: str, bases: t.Mapping[str, t.Optional[str]]) -> t.Dict[str, t.Any]:
    """What is remembered of the file at C(path), as it is by C(bases) now: file -> the file that it is built on.

    C(merging) is the overlay by its name of now; without that the merge is over. What was to become a point under another
    name (C(second)) is one under that name only.
    """
    found = dict(record)
    if found.get("second") == path:
        found["settled"] = True
    elif "second" in found:
        found = second_names.no_point(found)
    names = merge_stages.names_of_merged(found)
    overlay = next((each for each in names if bases.get(each) == path), None)
    if names and overlay is None:
        return merge_stages.without_overlay(found, path)
    found["merging"] = overlay
    return {key: value for key, value in found.items() if value is not None}


def left_overlays(directory: t.Any, image: str) -> t.Dict[str, str]:
    """Overlay -> base, of the merges, among what a LayerDirectory has seen, that are complete but for the removal of the
    overlay: the disk is in the base. One in another user's directory is not looked at any further, as nobody but that user
    may remove it.

    Others can write records too: so the base must say that the merge was complete, and what would be removed must be an
    overlay of ours on it, and as it was then.
    """
    found = {}
    for base, seen in list(directory.seen.items()):
        snapshot = layer_records.snapshot_in(seen.record)
        overlay = directory.record(base).get("merging") if snapshot.get("merged") else None
        if overlay is None or not directory.is_made(overlay) or not _tells(overlay, base, image):
            continue
        if not merge_stages.copy_state(snapshot, seen.facts, directory.seen[overlay].facts)[0]:
            continue
        if walk.unsafe_mover(os.path.realpath(os.path.dirname(overlay))) is None:
            found[overlay] = base
        else:
            _forget(directory, overlay)
    return found


def unused_overlays(directory: t.Any, active: str) -> t.Set[str]:
    """Empty overlays on the active layer that it says are about to be the disk: a run was killed before they were.

    One of another size is that too where the layer was written to since: it was the disk still, and has been resized.
    """
    record = directory.record(active)
    told = [] if record.get("settled") or record.get("merging") else layer_records.overlays_in(record)
    made = [each for each in directory.children.get(active, ()) if each in told and directory.is_made(each)]
    known = (record.get("size"), record.get("mtime_ns"))
    resized = None not in known and known != directory.seen[active].facts.stamp[2:]
    return {each for each in made if directory.is_empty(each, active, resized) and _is_bare(directory, each)}


def _is_bare(directory: t.Any, path: str) -> bool:
    """Whether an image has nothing beside its data, and nothing on it."""
    header = directory.seen[path].header
    return not (header.snapshots or header.bitmaps or directory.children.get(path))


def _forget(directory: t.Any, overlay: str) -> None:
    """As if it was not there."""
    del directory.seen[overlay]
    directory.children[directory.bases.pop(overlay)].remove(overlay)


def _tells(overlay: str, base: str, image: str) -> bool:
    """Whether the disk is in the base for certain: a QEMU that was there has left an overlay that has lost its name.

    Else a symbolic link tells: it is led to the base once the merge is complete, and what the overlay holds must not be
    merged again, as the guest may have written to the base since.
    """
    return overlay.endswith(LEAVING) or (os.path.islink(image) and os.path.realpath(image) == base)
