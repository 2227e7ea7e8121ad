# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""From what is so to what is asked of one array. Pure; what must not be done is refused here."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._array import actions, copies, refuse, start
from ansible_collections.platter.qemu.plugins.module_utils._array.spec import ArraySpec, Leg
from ansible_collections.platter.qemu.plugins.module_utils._array.state import (
    ArrayReading,
    ArrayState,
    Assembled,
    LegReading,
)
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import Action

Plan = t.List[Action[ArrayState]]
IN_SYNC = "in_sync"


def plan_array(spec: ArraySpec, state: ArrayState, reading: ArrayReading) -> Plan:
    """The steps to what C(spec) asks. Raises RefusedError."""
    plan = _plan_absent(spec, state, reading) if spec.state == "absent" else _plan_present(spec, state, reading)
    if plan:
        refuse.refuse_unable(spec, reading)
    return plan


def _plan_absent(spec: ArraySpec, state: ArrayState, reading: ArrayReading) -> Plan:
    if state.assembled is None and not state.pieces:
        return []
    refuse.refuse_users(spec, reading)
    return [actions.StopArray(spec.name)]


def _plan_present(spec: ArraySpec, state: ArrayState, reading: ArrayReading) -> Plan:
    for leg in spec.legs:
        if leg.name not in state.members:
            refuse.refuse_foreign(spec, leg, reading.legs[leg.name])
    refuse.refuse_twice(spec, reading)
    if state.assembled is not None:
        refuse.refuse_other_kind(spec, state.assembled)
        return _plan_running(spec, state, reading)
    stop: Plan = [actions.StopArray(spec.name)] if state.pieces else []
    return stop + _plan_start(spec, reading)


def _plan_start(spec: ArraySpec, reading: ArrayReading) -> Plan:
    legs = {name: each.superblock for name, each in reading.legs.items() if each.superblock and not each.lost}
    if start.is_unborn(legs.values()):
        return _plan_new(spec, reading)
    found = refuse.found_by(legs[start.newest_of(legs)])
    refuse.refuse_other_kind(spec, found)
    choice = start.choose(spec, legs)
    again = _coming(spec, [leg for leg in spec.legs if leg.name not in choice.fresh], reading)
    return [actions.AssembleArray(spec.name, found, choice.fresh), *again]


def _plan_new(spec: ArraySpec, reading: ArrayReading) -> Plan:
    absent = [leg.name for leg in spec.legs if not _is_usable(reading.legs[leg.name])]
    if absent:
        why = "and a new array is made of all its legs"
        raise refuse.missing(spec, absent, why, "Attach them first.")
    if not spec.may_be_new:
        raise refuse.all_blank(spec)
    wanted = Assembled(spec.level, len(spec.legs), spec.policy)
    return [actions.CreateArray(spec.name, wanted, tuple(leg.name for leg in spec.legs))]


def _plan_running(spec: ArraySpec, state: ArrayState, reading: ArrayReading) -> Plan:
    refuse.refuse_others(spec, reading)
    lost = [leg for leg in spec.legs if leg.name in state.members and reading.legs[leg.name].lost]
    if has_failed(state, reading):
        refuse.refuse_failed(spec, reading)
    plan: Plan = [actions.DropLeg(spec.name, leg.name) for leg in lost]
    if state.faulty:
        plan.insert(0, actions.RemoveFaulty(spec.name, tuple(sorted(state.faulty))))
    away = [leg for leg in spec.legs if leg.name not in state.members]
    _refuse_diverged(spec, away, reading)
    return plan + _coming(spec, away, reading)


def has_failed(state: ArrayState, reading: ArrayReading) -> bool:
    """Whether what is left of it is not enough to read and write."""
    if state.assembled is None:
        return False
    alive = {each.slot for each in reading.legs.values() if each.status == IN_SYNC and not each.lost}
    level, disks = state.assembled.level, state.assembled.disks
    slots = {slot for slot in alive if slot is not None}
    return reading.running in ("broken", "inactive") or not copies.is_enough(level, disks, slots)


def _refuse_diverged(spec: ArraySpec, away: t.Sequence[Leg], reading: ArrayReading) -> None:
    """By what the array's own legs say now."""
    inside = {name: each for name, each in reading.legs.items() if each.status == IN_SYNC and not each.lost}
    newest = max((each.superblock.events for each in inside.values() if each.superblock), default=0)
    for leg in away:
        seen = reading.legs[leg.name].superblock
        if seen is None or reading.legs[leg.name].lost:
            continue
        alone = seen.slot is not None and not {each.slot for each in inside.values()} & seen.active
        if alone or seen.events > newest + 1:
            evidence = {"events": {leg.name: seen.events, "array": newest}}
            raise refuse.diverged(spec, leg.name, sorted(inside), evidence)


def _coming(spec: ArraySpec, legs: t.Sequence[Leg], reading: ArrayReading) -> Plan:
    """Those that are there; the others may come later."""
    plan: Plan = []
    for leg in legs:
        seen = reading.legs[leg.name]
        if not _is_usable(seen):
            continue
        if seen.superblock is not None:
            plan.append(actions.ReAddLeg(spec.name, leg.name))
        elif leg.name in spec.fill:
            plan.append(actions.FillLeg(spec.name, leg.name))
        else:
            raise refuse.blank(spec, leg.name)
    return plan


def _is_usable(leg: LegReading) -> bool:
    return leg.there and not leg.lost


def condition_of(state: ArrayState, reading: ArrayReading) -> t.Tuple[str, str]:
    """(condition, sentence) of an array: C(absent), C(failed), C(recovering), C(degraded), C(resyncing), C(checking) or
    C(clean).
    """
    if state.assembled is None:
        return "absent", "it is not started"
    in_sync = [name for name, each in reading.legs.items() if each.status == IN_SYNC and not each.lost]
    away = sorted(set(reading.legs) - set(in_sync))
    if has_failed(state, reading):
        return "failed", "too many legs are lost: %s" % ", ".join(away)
    if reading.action == "recover":
        return "recovering", "%s is being filled" % ", ".join(away)
    if len(in_sync) < state.assembled.disks:
        return "degraded", "%s not in it" % _are(away)
    names = {"resync": "resyncing", "check": "checking", "repair": "checking"}
    return names.get(reading.action, "clean"), "all legs have all data"


def _are(names: t.Sequence[str]) -> str:
    return "%s %s" % (" and ".join(names), "is" if len(names) == 1 else "are")
