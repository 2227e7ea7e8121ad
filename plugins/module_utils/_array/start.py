# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Which of the legs that are there an array may be started of, by what md has written on them. Pure.

The leg with the most events is the newest that is there. Those that it calls active have been in the array as long as it
was; one of them that is missing now may have gone on without it. So all of them must be there, or a person has to agree.
"""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._array import copies, refuse
from ansible_collections.platter.qemu.plugins.module_utils._array.spec import ArraySpec
from ansible_collections.platter.qemu.plugins.module_utils._formats.md_superblock import Superblock

#: md takes a leg that is one event behind for one that has all (drivers/md/md.c, super_1_validate)
_MARGIN = 1


class Choice(t.NamedTuple):
    """Names of legs: C(fresh) have all the data, C(stale) come back afterwards."""

    fresh: t.Tuple[str, ...]
    stale: t.Tuple[str, ...]


def is_unborn(superblocks: t.Iterable[Superblock]) -> bool:
    """Whether an array was made and never started, as by a run that was killed: nothing is in it."""
    return all(each.events == 0 for each in superblocks)


def newest_of(legs: t.Mapping[str, Superblock]) -> str:
    """The name of the leg that has seen the most of the array."""
    return max(legs, key=lambda name: (legs[name].slot is not None, legs[name].events))


def choose(spec: ArraySpec, legs: t.Mapping[str, Superblock]) -> Choice:
    """C(legs): those that carry a superblock of this array, by name. Raises RefusedError."""
    newest = newest_of(legs)
    best = legs[newest]
    for name, each in legs.items():
        if have_diverged(best, each):
            raise refuse.diverged(spec, name, [newest], _told(legs))
    fresh = tuple(name for name, each in legs.items() if _is_fresh(each, best))
    stale = tuple(name for name in legs if name not in fresh)
    absent = best.active - {each.slot for each in legs.values() if _is_holder(each, best)}
    if absent and not spec.start_degraded:
        names = [leg.name for leg in spec.legs if leg.name not in legs]
        why = "and may have been written to without the others"
        way_out = "Attach them first; or set start_degraded: true if they are lost."
        raise refuse.missing(spec, names, why, way_out)
    whole = {legs[name].slot or 0 for name in fresh if not legs[name].partial}
    if not copies.is_enough(refuse.level_of(best), best.disks, whole):
        raise refuse.not_enough(spec, fresh, stale)
    return Choice(fresh, stale)


def _is_holder(each: Superblock, best: Superblock) -> bool:
    """Whether it is the disk that the newest leg knows in its slot, and not one that was replaced there."""
    return not best.holders or (each.slot, each.number) in best.holders


def _is_fresh(each: Superblock, best: Superblock) -> bool:
    return each.slot is not None and each.slot in best.active and each.events + _MARGIN >= best.events


def have_diverged(one: Superblock, other: Superblock) -> bool:
    """Whether each was in the array when the other, as it knows, was not."""
    if one.slot is None or other.slot is None or one.slot == other.slot:
        return False
    return not (_knows(one, other) or _knows(other, one))


def _knows(leg: Superblock, another: Superblock) -> bool:
    """Whether another was in the array when the leg was written last."""
    return another.slot in leg.active and _is_holder(another, leg)


def _told(legs: t.Mapping[str, Superblock]) -> t.Dict[str, t.Any]:
    return {"events": {name: each.events for name, each in legs.items()}}
