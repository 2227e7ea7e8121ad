# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""From what is asked of an image's snapshots and what is so to the steps between them, or to a refusal. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import (
    actions,
    plan_merge,
    plan_unfinished,
    refuse,
    retention,
)
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.plan_bitmaps import plan_bitmaps
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.plan_external import (
    clear_steps,
    link_steps,
    plan_external,
)
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.plan_internal import plan_internal
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import Retention, SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import Point, SnapshotReading, SnapshotState

Plan = t.List[actions.SnapshotAction]


def plan_snapshots(spec: SnapshotSpec, state: SnapshotState, reading: SnapshotReading) -> Plan:
    """The steps that make C(state) what C(spec) asks; empty when it is so already. Raises RefusedError."""
    refuse.refuse_bad_image(spec, reading)
    plan = _plan(spec, state, reading)
    clear = clear_steps(spec, state, reading, plan)
    if clear:
        plan = clear + _plan(spec, predict(state, clear), reading)
    if plan:
        refuse.refuse_encrypted(spec, reading)
        plan_unfinished.refuse_forked(spec, reading.layers)
        plan_unfinished.refuse_beside_a_merge(spec, plan, reading)
        plan_unfinished.refuse_beside_lowest_streamed(spec, plan, reading)
    return plan


def _plan(spec: SnapshotSpec, state: SnapshotState, reading: SnapshotReading) -> Plan:
    finished, state, reading = plan_unfinished.finish_merges(spec, state, reading)
    if spec.state == "pruned":
        return finished + _plan_pruned(spec, state, reading)
    refuse.refuse_other_kind(spec, state, reading)
    plan: Plan = []
    if spec.external:
        plan = plan_external(spec, state, reading)
    elif spec.name is not None:
        plan = plan_internal(spec, state, reading)
    return finished + plan + plan_bitmaps(spec, predict(state, plan), reading)


def _plan_pruned(spec: SnapshotSpec, state: SnapshotState, reading: SnapshotReading) -> Plan:
    dated = [retention.Dated(p.name, p.date or 0.0, number) for number, p in enumerate(state.points)]
    refuse.refuse_skewed_clock(spec, dated, reading.now)
    for name in sorted(
        {each.name for each in dated if state.names.count(each.name) > 1 and retention.fits(each.name, spec.match)}
    ):
        refuse.refuse_ambiguous(replace(spec, name=name), state)
    names = retention.surplus(dated, spec.match, t.cast(Retention, spec.retention), reading.now)
    points = [t.cast(Point, state.point(name)) for name in names]
    why = ", which no rule of the retention keeps"
    if spec.external:
        plan: Plan = plan_merge.remove_points(spec, state, reading, points, why)
        return plan + link_steps(spec, state, plan)
    for point in points:
        refuse.refuse_ambiguous(replace(spec, name=point.name), state)
    return [actions.DeleteSnapshot(state.active, point, why) for point in points]
