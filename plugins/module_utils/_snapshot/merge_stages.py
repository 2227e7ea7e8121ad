# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a file's record becomes when the merge that it tells of is over, in one way or the other. Pure.

The stages of a merge are told in layer_records.
"""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._snapshot.family import LEAVING

Record = t.Mapping[str, t.Any]
#: what does not change with what a file holds
LASTING = ("made", "switch", "streaming")
#: what a point's file is and is to stay
FROZEN = ("size", "mtime_ns")
#: how far a merge has come
STAGES = ("told", "copied", "copied_size", "copied_mtime_ns", "merged")


def both_names(path: str) -> t.Tuple[str, str]:
    """What an overlay is called, and what it is called while a running QEMU leaves it."""
    name = path[: -len(LEAVING)] if path.endswith(LEAVING) else path
    return (name, name + LEAVING)


def names_of_merged(snapshot: Record) -> t.Tuple[str, ...]:
    """The names that the overlay which is being merged can have; none where there is no merge."""
    merging = str(snapshot.get("merging") or "")
    return both_names(merging) if merging else ()


def without_overlay(snapshot: Record, path: str) -> t.Dict[str, t.Any]:
    """What is to be remembered of the file at C(path) instead, once the overlay is there no more that is being merged."""
    merging = str(snapshot.get("merging"))
    # it has taken the overlay's name, as the last step; or somebody has found that what QEMU was leaving is not the right one
    whole = snapshot.get("copied") or merging == path or merging.endswith(LEAVING)
    return after_merge(snapshot) if whole else no_merge(snapshot)


def after_merge(snapshot: Record) -> t.Dict[str, t.Any]:
    """What is to be remembered of a file instead of C(snapshot) once the merge that this tells of has ended.

    What a point's file was when all was merged stays noted, as somebody may have written to it since.
    """
    made = {key: snapshot[key] for key in LASTING if key in snapshot}
    if not snapshot.get("heir"):
        return made
    names = names_of_merged(snapshot)
    kept: t.Dict[str, t.Any] = {"settled": True, **({"leaf": True} if snapshot.get("heir_leaf") else {})}
    kept["overlays"] = [each for each in snapshot.get("overlays") or () if each not in names]
    if snapshot.get("merged"):
        kept.update({key: snapshot[key] for key in FROZEN if key in snapshot})
    return dict(made, name=snapshot["heir"], date=snapshot.get("heir_date"), **kept)


def no_merge(snapshot: Record) -> t.Dict[str, t.Any]:
    """The same for a merge that cannot be ended, as its overlay is not there: others have written to the point's file."""
    about = ("merging", "heir", "heir_date", "heir_leaf", *STAGES)
    return {key: value for key, value in snapshot.items() if key not in about and value is not None}


def copy_state(snapshot: Record, file: t.Any, overlay: t.Any, *, in_use: bool = False) -> t.Tuple[bool, bool]:
    """(whether all that the overlay holds is in the file, whether both were written to since it was), by C(snapshot).

    C(file), C(overlay): their FileFacts. C(in_use): a guest writes to the overlay now. An overlay that alone was written to
    is to be merged once more.
    """
    if not snapshot.get("copied"):
        return (False, False)
    known = (snapshot.get("copied_size"), snapshot.get("copied_mtime_ns"))
    if overlay.path.endswith(LEAVING) or (known == (overlay.length, overlay.mtime_ns) and not in_use):
        return (True, False)
    return (False, (snapshot.get("size"), snapshot.get("mtime_ns")) != (file.length, file.mtime_ns))
