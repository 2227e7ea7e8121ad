# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The refusals that a plan for an array can come to, each with its evidence and one way out. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._array.spec import ArraySpec, Leg
from ansible_collections.platter.qemu.plugins.module_utils._array.state import ArrayReading, Assembled, LegReading
from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._formats.md_superblock import Superblock

Evidence = t.Optional[t.Mapping[str, t.Any]]
_LEVELS = {1: "raid1", 5: "raid5", 10: "raid10"}


def refused(spec: ArraySpec, reason: str, fact: str, way_out: str, evidence: Evidence = None) -> errors.RefusedError:
    """A refusal of what C(spec) asks."""
    return errors.refused_state("array", spec.state, spec.name, reason, fact, way_out, evidence)


def level_of(superblock: Superblock) -> str:
    """As mdadm calls it."""
    return _LEVELS.get(superblock.level, "level %d" % superblock.level)


def found_by(superblock: Superblock) -> Assembled:
    """What a leg says that its array is."""
    return Assembled(level_of(superblock), superblock.disks, superblock.policy)


def refuse_unable(spec: ArraySpec, reading: ArrayReading) -> None:
    """What a change needs must be there."""
    if not reading.program:
        raise refused(spec, "tool_missing", "mdadm is not installed", "Install it: mdadm.")


def refuse_users(spec: ArraySpec, reading: ArrayReading) -> None:
    """An array that somebody has does not go."""
    if reading.users:
        fact = "%s is in use by %s" % (reading.path, ", ".join(reading.users[:5]))
        way_out = "Unmount it, or stop what uses it."
        raise refused(spec, "array_busy", fact, way_out, {"in_use_by": list(reading.users)})


def refuse_other_kind(spec: ArraySpec, found: Assembled) -> None:
    """What the array is cannot be changed here."""
    asked = Assembled(spec.level, len(spec.legs), spec.policy)
    for what, is_so, wanted in zip(("level", "number of legs", "consistency_policy"), _values(found), _values(asked)):
        if is_so != wanted:
            fact = "its %s is %s, and %s is asked" % (what, is_so, wanted)
            way_out = "Describe it as it is; or change it with mdadm --grow first."
            raise refused(spec, "exists_different", fact, way_out, {"found": _values(found), "asked": _values(asked)})


def _values(kind: Assembled) -> t.List[t.Any]:
    return [kind.level, kind.disks, kind.policy]


def refuse_foreign(spec: ArraySpec, leg: Leg, reading: LegReading) -> None:
    """Nothing but blank disks, and legs of this array, are touched."""
    seen = reading.superblock
    evidence = {"leg": leg.name, "device": leg.device, "contents": list(reading.contents or ())}
    if reading.holder:
        fact = "leg %s is in another array, %s" % (leg.name, reading.holder)
        raise refused(spec, "leg_foreign", fact, _RIGHT_DISK, dict(evidence, array=reading.holder))
    if seen is not None and seen.uuid != spec.uuid:
        fact = "leg %s belongs to array %s, UUID %s" % (leg.name, seen.name, seen.uuid)
        raise refused(spec, "leg_foreign", fact, _RIGHT_DISK, dict(evidence, uuid=seen.uuid))
    if seen is not None and seen.reshaping:
        fact = "leg %s is being reshaped" % leg.name
        raise refused(spec, "array_reshaping", fact, "Let mdadm --grow come to its end first.", evidence)
    if seen is None and reading.contents:
        fact = "there is something on leg %s: %s" % (leg.name, "; ".join(reading.contents))
        raise refused(spec, "leg_foreign", fact, _RIGHT_DISK, evidence)


_RIGHT_DISK = "Correct its device, or uuid if that is wrong; nothing but a blank disk becomes a leg."


def refuse_twice(spec: ArraySpec, reading: ArrayReading) -> None:
    """Two names of one disk would be written to as if they were two."""
    seen: t.Dict[str, str] = {}
    for leg in spec.legs:
        superblock = reading.legs[leg.name].superblock
        other = seen.setdefault(superblock.leg, leg.name) if superblock else leg.name
        if other != leg.name:
            fact = "legs %s and %s are the same disk" % (other, leg.name)
            way_out = "Attach each leg from an export of its own."
            raise refused(spec, "leg_foreign", fact, way_out, {"leg": leg.name, "other": other})


def missing(spec: ArraySpec, names: t.Sequence[str], why: str, way_out: str) -> errors.RefusedError:
    """C(names): of legs."""
    fact = "%s %s missing, %s" % (" and ".join(names), "is" if len(names) == 1 else "are", why)
    return refused(spec, "legs_missing", fact, way_out, {"missing": list(names)})


def diverged(spec: ArraySpec, leg: str, others: t.Sequence[str], superblocks: Evidence) -> errors.RefusedError:
    """Both sides were written to without each other: which one is to go only a person can say."""
    fact = "leg %s has gone on without %s, and %s without it" % (
        leg,
        " and ".join(others) or "the array",
        "they have" if len(others) > 1 else "that has",
    )
    way_out = "Save what is newer on it, then give a blank disk in its place, and name it in fill."
    return refused(spec, "leg_diverged", fact, way_out, dict(superblocks or {}, leg=leg))


def blank(spec: ArraySpec, leg: str) -> errors.RefusedError:
    """A blank disk in the place of a leg is mostly the wrong disk."""
    fact = "leg %s is blank, and the array is not new" % leg
    way_out = "If it replaces one that is lost, say so: fill: [%s]." % leg
    return refused(spec, "leg_blank", fact, way_out, {"leg": leg})


def all_blank(spec: ArraySpec) -> errors.RefusedError:
    """Not of every disk that is lost does one come back: a keeper makes no new array."""
    fact = "all its legs are blank"
    way_out = "If it is to be a new array, make it (md_array); else attach the right exports."
    return refused(spec, "leg_blank", fact, way_out, {})


def not_enough(spec: ArraySpec, fresh: t.Sequence[str], stale: t.Sequence[str]) -> errors.RefusedError:
    """What is there does not make up all the data."""
    fact = "only %s have what was written last, and that is not enough" % (" and ".join(fresh) or "no legs")
    way_out = "Only a person can say what may be lost: mdadm --assemble --force, by hand, on copies of the legs."
    return refused(spec, "not_enough_legs", fact, way_out, {"fresh": list(fresh), "stale": list(stale)})


def refuse_failed(spec: ArraySpec, reading: ArrayReading) -> None:
    """Nothing can be added to an array that has lost too many legs."""
    way_out = "Stop what uses it; then state: absent, attach its legs again, and state: present."
    evidence = {"path": reading.path, "array_state": reading.running}
    raise refused(
        spec, "array_failed", "too many of its legs are lost, so that it reads and writes nothing", way_out, evidence
    )


def refuse_others(spec: ArraySpec, reading: ArrayReading) -> None:
    """A member that nobody has listed."""
    if reading.others:
        fact = "%s is in it, and no leg of the task" % " and ".join(reading.others)
        way_out = "List it; or take it out with mdadm --fail and --remove."
        raise refused(spec, "member_unlisted", fact, way_out, {"devices": list(reading.others)})
