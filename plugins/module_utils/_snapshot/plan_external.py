# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The steps for external snapshots. Pure."""

from __future__ import annotations

import typing as t
from posixpath import basename, dirname, join, splitext

from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import (
    actions,
    family,
    layer_actions,
    merge_actions,
    plan_internal,
    plan_merge,
    plan_switch,
    plan_unfinished,
    refuse,
    refuse_running,
)
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import Point, SnapshotReading, SnapshotState

Plan = t.List[actions.SnapshotAction]
#: bytes of the name of a new file: file systems have 255, of which what is added to a name for a while (C(.leaving~)), or
#: beside it (its record, where there are no attributes), takes some
_LONGEST_FILE_NAME = 232


def plan_external(spec: SnapshotSpec, state: SnapshotState, reading: SnapshotReading) -> Plan:
    """The steps for every state but C(pruned). Raises RefusedError."""
    refuse.refuse_ambiguous(spec, state)
    there = state.point(spec.name)
    if spec.name is None:
        plan: Plan = []
    elif spec.state == "present":
        plan = _plan_present(spec, state, reading, there)
    elif spec.state == "reverted":
        plan = _plan_revert(spec, state, reading)
    else:
        plan = plan_merge.remove_points(spec, state, reading, [there] if there else [])
    return plan + link_steps(spec, state, plan)


def link_steps(spec: SnapshotSpec, state: SnapshotState, plan: Plan) -> Plan:
    """The step that leads a symbolic link to the active file, where it does not lead there already."""
    active = predict(state, plan).active
    if spec.switch != "symlink" or state.link is None or state.link == active:
        return []
    return [layer_actions.SwitchLink(spec.image, active)]


def clear_steps(spec: SnapshotSpec, state: SnapshotState, reading: SnapshotReading, plan: Plan) -> Plan:
    """The steps before those of C(plan) that remove what a killed run has put on the active layer, and nobody uses."""
    if not any(isinstance(action, merge_actions.ON_LAYERS) for action in plan):
        return []
    return [
        layer_actions.RemoveUnused(spec.image, state.active, each.path, each.stamp, each.path == state.link)
        for each in reading.unused
    ]


def beside(path: str, name: str, ending: t.Optional[str] = None) -> str:
    """The file beside C(path) that is called after C(name): C(web1.qcow2), C(s1) gives C(web1.s1.qcow2)."""
    stem, own = splitext(basename(path))
    return join(dirname(path), "%s.%s%s" % (stem, name, own if ending is None else ending))


# --- taking one


def _plan_present(spec: SnapshotSpec, state: SnapshotState, reading: SnapshotReading, there: t.Optional[Point]) -> Plan:
    if there:
        _refuse_unfinished(spec, there)
        unsettled = reading.layers[t.cast(str, there.path)].frozen is None
        accept = unsettled or (there.altered and spec.allow_altered)
        return [layer_actions.AcceptPoint(spec.image, there)] if accept else []
    plan_switch.refuse_switch(spec, state, reading)
    plan_switch.refuse_rename(spec, state, reading)
    plan_unfinished.refuse_half_merged(spec, reading.layers, [state.active])
    frozen, overlay = _new_names(spec, state, reading)
    if frozen != state.active:
        plan_unfinished.refuse_half_streamed(spec, reading.layers, [state.active])
    layer = reading.layers[state.active]
    content = family.content_of(reading.layers, state.active)
    if frozen != state.active and not family.shows_base(reading.layers, state.active):
        content = "%s:%d" % (frozen, layer.virtual_size)
    point = Point(t.cast(str, spec.name), content=content, virtual_size=state.virtual_size, path=frozen)
    lower = list(family.layers_up(reading.layers, state.active))[:-1]
    layers = (*lower, frozen, overlay)
    return [layer_actions.AddOverlay(spec.image, point, layer.format, state.active, overlay, layers, spec.relative)]


def _new_names(spec: SnapshotSpec, state: SnapshotState, reading: SnapshotReading) -> t.Tuple[str, str]:
    """(what the file of now is called as a point, what the new overlay is called)"""
    name = t.cast(str, spec.name)
    if spec.switch == "rename":
        return _free(spec, reading, state.active, name, None), state.active
    if spec.overlay:
        _refuse_taken(spec, reading, spec.overlay)
        refuse.refuse_long_name(spec, "the overlay", basename(spec.overlay), _LONGEST_FILE_NAME)
        return state.active, spec.overlay
    return state.active, _free(spec, reading, join(dirname(state.active), basename(spec.image)), name, ".qcow2")


def _free(spec: SnapshotSpec, reading: SnapshotReading, path: str, name: str, ending: t.Optional[str]) -> str:
    """The file called after C(name), with a number where that name is taken: files keep theirs when points go."""
    number, found = 1, beside(path, name, ending)
    while found in reading.taken_names:
        number += 1
        found = beside(path, "%s-%d" % (name, number), ending)
    refuse.refuse_long_name(spec, "a file", basename(found), _LONGEST_FILE_NAME)
    return found


def _refuse_taken(spec: SnapshotSpec, reading: SnapshotReading, path: str) -> None:
    if reading.missing_directory:
        raise refuse.refused(
            spec,
            "directory_missing",
            "the directory for %s does not exist" % path,
            "Make it first (ansible.builtin.file, state=directory).",
            {"directory": dirname(path)},
        )
    if path in reading.taken_names:
        raise refuse.refused(
            spec,
            "overlay_exists",
            "there is a file %s already" % path,
            "Name another file in overlay, or leave it out.",
            {"path": path},
        )


def _refuse_unfinished(spec: SnapshotSpec, point: Point) -> None:
    if point.merging:
        raise refuse.refused(
            spec,
            "merge_unfinished",
            "a merge of this snapshot was begun and not ended, so that %s holds neither then nor now" % point.path,
            "Finish it with state=committed.",
            {"path": point.path},
        )


# --- going back


def _plan_revert(spec: SnapshotSpec, state: SnapshotState, reading: SnapshotReading) -> Plan:
    refuse.refuse_missing_point(spec, state)
    point = t.cast(Point, state.point(spec.name))
    _refuse_unfinished(spec, point)
    below = family.down_from(reading.layers, t.cast(str, point.path))
    for path in below:
        refuse.refuse_altered(spec, reading.layers[path])
    plan: Plan = [
        layer_actions.AcceptPoint(spec.image, each) for each in state.points if each.altered and each.path in below
    ]
    if state.content is not None and state.content == point.content:
        return plan
    if reading.live is not None:
        raise refuse_running.guest_running(spec, point)
    plan_unfinished.refuse_half_merged(spec, reading.layers, [state.active])
    plan_unfinished.refuse_half_streamed(spec, reading.layers, [state.active])
    # from the lowest alone, which nothing is built on then, the others would not be found again
    plan_unfinished.refuse_beside_half_streamed(spec, reading.layers, below[-1:])
    active = reading.layers[state.active]
    if active.children:
        raise refuse.refused(
            spec,
            "has_overlays",
            "other images have %s as their backing file: %s" % (active.path, ", ".join(active.children[:5])),
            "Rebase or flatten those first.",
            {"overlays": list(active.children)},
        )
    holds = not active.empty or active.bitmaps or active.snapshots
    saved = _saved(spec, state, reading) if spec.save and holds else None
    if saved is None:
        refuse.refuse_loss(
            spec, active, "Set save to true, which keeps the layer as a snapshot; or remove those first."
        )
    lowest = max((number for number, path in enumerate(below) if reading.layers[path].point), default=0)
    layers = (*reversed(below[: lowest + 1]), state.active)
    format_name = reading.layers[t.cast(str, point.path)].format
    return [*plan, layer_actions.RevertOverlay(spec.image, point, format_name, state.active, layers, saved)]


def _saved(spec: SnapshotSpec, state: SnapshotState, reading: SnapshotReading) -> Point:
    name = plan_internal.saved_name(spec, state.names)
    path = _free(spec, reading, join(dirname(state.active), basename(spec.image)), name, splitext(state.active)[1])
    content = state.content if reading.layers[state.active].empty else "%s:%d" % (path, state.virtual_size)
    return Point(name, content=content, virtual_size=state.virtual_size, path=path)
