# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The steps for internal snapshots. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._snapshot import actions, refuse
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import LONGEST_NAME, SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import Point, SnapshotReading, SnapshotState

Plan = t.List[actions.SnapshotAction]


def plan_internal(spec: SnapshotSpec, state: SnapshotState, reading: SnapshotReading) -> Plan:
    """The steps for C(present), C(absent) and C(reverted). Raises RefusedError."""
    refuse.refuse_ambiguous(spec, state)
    there = state.point(spec.name)
    if spec.state == "present":
        return [] if there else [take(spec, state, t.cast(str, spec.name), reading)]
    if spec.state == "absent":
        return [actions.DeleteSnapshot(state.active, there)] if there else []
    return _plan_revert(spec, state, reading)


def take(
    spec: SnapshotSpec, state: SnapshotState, name: str, reading: SnapshotReading, why: str = ""
) -> actions.TakeSnapshot:
    """The step that keeps what is there now as C(name)."""
    memory = spec.memory and reading.live is not None
    held = None if memory else 0
    point = Point(name, _next_id(state), state.content, state.virtual_size, vm_state_size=held)
    return actions.TakeSnapshot(state.active, point, memory, why)


def _next_id(state: SnapshotState) -> str:
    """One more than the largest there is, as QEMU counts (block/qcow2-snapshot.c: find_new_snapshot_id)."""
    numbers = [int(point.id) for point in state.points if point.id.isdigit()]
    return str(max(numbers, default=0) + 1)


def _plan_revert(spec: SnapshotSpec, state: SnapshotState, reading: SnapshotReading) -> Plan:
    refuse.refuse_missing_point(spec, state)
    point = t.cast(Point, state.point(spec.name))
    if state.content is not None and state.content == point.content:
        return []
    refuse_stale_bitmaps(spec, state)
    plan: Plan = []
    if spec.save and not any(each.content == state.content for each in state.points if state.content):
        taken = {*state.names, *reading.names_beside}
        plan.append(take(spec, state, saved_name(spec, taken), reading, ", to be able to go back"))
    return [
        *plan,
        actions.RevertImage(state.active, point, state.virtual_size, spec.memory and reading.live is not None),
    ]


def refuse_stale_bitmaps(spec: SnapshotSpec, state: SnapshotState) -> None:
    """A bitmap says what has been written since some moment; after a revert it would say something wrong."""
    names = [bitmap.name for bitmap in state.bitmaps]
    if names:
        raise refuse.refused(
            spec,
            "would_lose_bitmaps",
            "its dirty bitmaps (%s) would not fit what it holds afterwards" % ", ".join(names),
            "Remove them first (bitmaps, state: absent); the next backup is then a full one.",
            {"bitmaps": names},
        )


def saved_name(spec: SnapshotSpec, taken: t.Collection[str]) -> str:
    """The name under which what is there now is kept."""
    if spec.save_as is not None:
        if spec.save_as in taken:
            raise refuse.refused(
                spec,
                "snapshot_exists",
                "there is a snapshot %s already, and what is there now was to be kept under that name" % spec.save_as,
                "Set save_as to another name.",
            )
        return spec.save_as
    names = ["%s.undone" % spec.name] + ["%s.undone-%d" % (spec.name, number) for number in range(2, len(taken) + 3)]
    name = next(name for name in names if name not in taken)
    refuse.refuse_long_name(spec, "what is there now", name, LONGEST_NAME)
    return name
