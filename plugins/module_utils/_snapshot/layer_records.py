# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a file is in the family of an image stands in its own record (C(snapshot)): C(made) for an overlay of ours;
C(switch) for how the VM comes to it; C(name) and C(date) for a point, with C(size) and C(mtime_ns) of its file, by which it
is told whether somebody has written to it, with C(leaf) when it was left rather than built on, and C(settled) once the disk
is elsewhere; C(merging), the overlay that is being copied into it, with C(heir), the point that it will be after that;
C(streaming), the point that is copied up into it, which has C(into) for that; C(overlays), those of ours on it: they may
lie in other directories, and belong to others than the file does (C(owners): the numbers of those, also of overlays that are
not named); C(rewriting), the point whose merge writes to the file, which has no times meanwhile; C(retired), when it is no
point any more, and stays for what is built on it: it is no disk either. While it gets another name: see second_names.

The stages of a merge, whether it is done here or by a running QEMU:

* C(merging): it was begun. The file holds neither then nor now; a next run copies once more.
* C(copied), with C(copied_size) and C(copied_mtime_ns) of the overlay: all of it is in the file. A running QEMU may let the
  overlay go from then on, so that it is in no chain any more. It is copied again only if a running QEMU still uses it.
* C(told), only where a running QEMU has the overlay as its disk: it is told to leave that, so that what it writes last may be
  in the one file or in the other; when both show the same, that is no matter.
* C(merged): nobody is built on the overlay any more either. The disk may go on in the file, to which a link may lead from
  then on; the overlay has only to be removed. A point's file is to stay as it was at that moment.

What was copied counts only while the overlay is as it was then. When it alone was written to since, it is merged once more;
when both files were, nobody can tell which is right. A QEMU that leaves an overlay (C(.leaving~)) may still write its tables
to it, and nothing can be started from that one: it is as it was.

Written before a step begins and after it has ended, so that a next run can tell what a killed one left.
"""

from __future__ import annotations

import contextlib
import os
import time
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._inspect.image import fingerprint, look_at, remembered_base
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import (
    merge_stages,
    overlay_names,
    second_names,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, records

_NUMBER = (int, float)
_KINDS: t.Mapping[str, t.Any] = {
    **dict.fromkeys(("name", "merging", "heir", "streaming", "into", "switch", "until", "second", "rewriting"), str),
    **dict.fromkeys(("made", "date", "heir_date", "size", "mtime_ns", "copied_size", "copied_mtime_ns"), _NUMBER),
    **dict.fromkeys(("leaf", "settled", "heir_leaf", "told", "copied", "merged", "retired"), bool),
    **dict.fromkeys(("overlays", "owners"), list),
}


def snapshot_in(record: t.Mapping[str, t.Any]) -> t.Dict[str, t.Any]:
    """What a file's record says of it as a layer. The owner of the file can write there: only what is as we write it."""
    found = record.get("snapshot") or {}
    return {key: value for key, value in found.items() if isinstance(value, _KINDS.get(key, ()))}


def snapshot_of(path: str) -> t.Dict[str, t.Any]:
    """The same of the file at C(path), as it is to be gone on from: a run that was killed between the removal of an overlay
    and the note of it has left the note to us.
    """
    snapshot = snapshot_in(records.read_record(path))
    names = merge_stages.names_of_merged(snapshot)
    if not names or any(os.path.lexists(each) for each in names if each != path):
        return snapshot
    return merge_stages.without_overlay(snapshot, path)


def overlays_in(snapshot: t.Mapping[str, t.Any]) -> t.List[str]:
    """The overlays of ours on a file, by its own account: some may have gone."""
    return [path for path in snapshot.get("overlays") or () if os.path.isabs(path)]


def is_layer(record: t.Mapping[str, t.Any]) -> bool:
    """Whether the file is an overlay of ours or has been a point."""
    return bool({"made", "name"} & snapshot_in(record).keys())


def remove_layer(path: str) -> None:
    """Remove a file with what is remembered of it, under both of its names: see C(live_merge.leave)."""
    if os.path.lexists(path):
        os.unlink(path)
    for name in (each for each in merge_stages.both_names(path) if not os.path.lexists(each)):
        records.remove_record(name)
    files.fsync_path(os.path.dirname(path))


def note_point(
    path: str,
    name: str,
    *,
    leaf: bool = False,
    overlay: t.Optional[str] = None,
    settled: bool = True,
    called: t.Optional[str] = None,
) -> None:
    """Remember that the file is a point from now on; it counts only once something is built on it, or it is left.

    C(overlay): what is about to be built on it. C(called): what it is to be called then.
    C(settled): nobody writes to it any more; otherwise C(settle_point) is to follow.
    """
    snapshot = dict(made(path), name=name, date=time.time(), **(_frozen(path) if settled else {}))
    snapshot.update(second_names.noted(path, called))
    if overlay:
        snapshot["overlays"] = [overlay]
    remember(path, dict(snapshot, leaf=True) if leaf else snapshot)


def made(path: str) -> t.Dict[str, t.Any]:
    """Whether it is an overlay of ours, and how the VM comes to it, does not change with what it holds."""
    snapshot = snapshot_in(records.read_record(path))
    return {key: snapshot[key] for key in merge_stages.LASTING if key in snapshot}


def forget_point(path: str) -> None:
    """The file is no point any more."""
    remember(path, made(path))


def _frozen(path: str) -> t.Dict[str, int]:
    """What a point's file is and is to stay. Nothing for a block device, whose times say nothing."""
    seen = fingerprint(files.file_facts(path)) or {}
    return {key: seen[key] for key in merge_stages.FROZEN if key in seen}


def settle_point(path: str) -> None:
    """The disk is elsewhere now, and a point's file is to stay as it is. Nothing is done for other files."""
    snapshot = snapshot_of(path)
    if snapshot.get("name"):
        kept = {key: value for key, value in second_names.of_one_name(snapshot).items() if key != "rewriting"}
        remember(path, dict(kept, settled=True, **_frozen(path)))


@contextlib.contextmanager
def rewritten(path: str, point: t.Optional[str], base: str) -> t.Iterator[None]:
    """While we write to a point's file what changes nothing that it holds. One that others have written to stays so.

    C(point): the snapshot that the file was seen to be. A name that a killed run has left does not make it one.
    C(base): the point's file that the merge is about for which this is done.
    """
    snapshot = snapshot_of(path)
    as_left = all(snapshot.get(key) == value for key, value in _frozen(path).items())
    ours = point is not None and (as_left or snapshot.get("rewriting") == base)
    if ours and snapshot.get("name"):
        snapshot["rewriting"] = base
        remember(path, {key: value for key, value in snapshot.items() if key not in merge_stages.FROZEN})
    try:
        yield
    finally:
        if ours:
            settle_point(path)


def keep_leaf(path: t.Optional[str]) -> None:
    """A point stays one when the last layer on it is about to go. Nothing is done for other files."""
    snapshot = snapshot_of(path) if path else {}
    if path and snapshot.get("name") and not snapshot.get("leaf"):
        remember(path, dict(snapshot, leaf=True))


def change_overlays(path: t.Optional[str], *, gone: t.Sequence[str] = (), new: t.Sequence[str] = ()) -> None:
    """Remember which overlays of ours are on a point's file. Nothing is done for other files, and other users'."""
    snapshot = snapshot_of(path) if path else {}
    changed = overlay_names.enough([*_without(snapshot, (*gone, *new), ()), *new])
    if path and snapshot.get("name") and changed != overlays_in(snapshot):
        owners = overlay_names.owners([*overlays_in(snapshot), *new], snapshot.get("owners", ()))
        with contextlib.suppress(PermissionError):
            remember(path, dict(snapshot, overlays=changed, owners=owners))


def note_overlay(path: t.Optional[str], overlay: str, like: t.Optional[str] = None) -> None:
    """The same for an overlay that gets this name; C(like): its name until then. Not for a clone, a disk of its own."""
    if path and is_made(like or overlay):
        change_overlays(path, new=(overlay,))


def is_made(path: str) -> bool:
    """Whether the file at C(path) says that it is an overlay of ours."""
    return "made" in snapshot_in(records.read_record(path))


def _without(snapshot: t.Mapping[str, t.Any], gone: t.Sequence[str], new: t.Sequence[str]) -> t.List[str]:
    return list(dict.fromkeys([*(each for each in overlays_in(snapshot) if each not in gone), *new]))


def begin_merge(path: str, overlay: str, heir: t.Optional[str] = None) -> None:
    """Remember, on stable storage, that the file holds neither then nor now until the merge has ended.

    C(heir): the snapshot that the overlay was seen to be. A name that a killed run has left there is none.
    """
    top = snapshot_of(overlay)
    snapshot = dict(merge_stages.no_merge(snapshot_of(path)), merging=overlay)
    snapshot["overlays"] = _without(snapshot, (), overlays_in(top))
    if top.get("switch"):
        snapshot["switch"] = top["switch"]
    if heir is not None:
        snapshot.update(heir=heir, heir_date=top.get("date"), heir_leaf=bool(top.get("leaf")))
    remember(path, snapshot)


def note_told(path: str) -> None:
    """Remember, on stable storage, that a running QEMU may leave the overlay at any moment from now on."""
    remember(path, dict(snapshot_in(records.read_record(path)), told=True))


def note_copied(path: str) -> None:
    """Remember, on stable storage, that all of the overlay is in the file, before a running QEMU lets the overlay go."""
    snapshot = snapshot_in(records.read_record(path))
    if not snapshot.get("copied"):
        remember(path, _copied(path, snapshot))


def note_merged(path: str) -> None:
    """Remember, on stable storage, that all of the overlay is in the file and nobody is built on the overlay any more:
    nobody may copy it again over what is written to the file from now on.
    """
    snapshot = snapshot_in(records.read_record(path))
    if not snapshot.get("merged"):
        remember(path, dict(_copied(path, snapshot), merged=True))


def _copied(path: str, snapshot: t.Mapping[str, t.Any]) -> t.Dict[str, t.Any]:
    overlay = {"copied_" + key: value for key, value in _frozen(str(snapshot["merging"])).items()}
    return dict(snapshot, copied=True, **overlay, **_frozen(path))


def is_copied(path: str, overlay: str) -> bool:
    """Whether all that the overlay holds is in the file now."""
    snapshot = snapshot_in(records.read_record(path))
    if overlay not in merge_stages.names_of_merged(snapshot):
        return False
    return merge_stages.copy_state(snapshot, files.file_facts(path), files.file_facts(overlay))[0]


def end_merge(path: str) -> None:
    """The merge has ended: the file is what its overlay was, the active one or a point."""
    remember(path, merge_stages.after_merge(snapshot_in(records.read_record(path))))


def forget(path: str, key: str) -> None:
    """One of the things that are remembered, if it is."""
    snapshot = snapshot_of(path)
    if snapshot.pop(key, None):
        remember(path, snapshot)


def remember(path: str, snapshot: t.Mapping[str, t.Any]) -> None:
    """What a file is as a layer, on stable storage."""
    record = records.read_record(path)
    record.pop("snapshot", None)
    records.write_record(path, dict(record, snapshot=dict(snapshot)) if snapshot else record)
    files.fsync_path(path)


def remember_base(path: str, base: t.Optional[str]) -> None:
    """Keep the fingerprint of an overlay's base as it is now in its record."""
    record = records.read_record(path)
    record.pop("base", None)
    record.pop("next_base", None)
    if base:
        header = look_at(path, "qcow2").header
        record["base"] = remembered_base(base, header.backing_file if header else None)
    records.write_record(path, record)
