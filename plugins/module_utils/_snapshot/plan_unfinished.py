# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What killed runs have left of merges: the step that clears up what is complete, and refusals of all that would touch the
rest. Pure.
"""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import (
    actions,
    family,
    layer_actions,
    merge_actions,
    merge_stages,
    refuse,
)
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import Layer, SnapshotReading, SnapshotState

Plan = t.List[actions.SnapshotAction]


def finish_merges(
    spec: SnapshotSpec, state: SnapshotState, reading: SnapshotReading
) -> t.Tuple[Plan, SnapshotState, SnapshotReading]:
    """The step that clears up what a killed run has left of a merge, with the state and the reading as they are then.

    Raises RefusedError when a VM that does not run any more was told to leave the overlay, and it was not noted that it had:
    what it wrote last may be in either file. A VM that runs is that one if it has the job. The task that ends that very
    merge may do so if both show the same, which the guard finds out.
    """
    left = next((path for path in sorted(reading.layers) if _is_left(state, reading, path)), None)
    if left is None:
        return [], state, reading
    base = t.cast(str, reading.layers[left].base)
    low = reading.layers[base]
    if state.active == left and reading.live is not None:
        _refuse_all_but_its_end(spec, state, base)
    if state.active == left and (reading.live is not None or not low.told):
        return [], state, reading
    if not low.copied and ("commit", base) not in (reading.live.jobs if reading.live else ()):
        if not _may_be_compared(spec, state, reading, left):
            raise ended_in_between(spec, left, base, _name_of(state, base) if state.active == left else "")
        return [], state, replace(reading, layers={**reading.layers, base: replace(low, copied=True)})
    _refuse_needed(spec, reading.layers[left])
    layers = family.removed(reading.layers, left)
    layers[base] = replace(layers[base], merging=None, copied=False, merged=False)
    plan: Plan = [merge_actions.FinishMerge(spec.image, base, left, state.link in merge_stages.both_names(left))]
    return plan, predict(state, plan), replace(reading, layers=layers)


def _is_left(state: SnapshotState, reading: SnapshotReading, path: str) -> bool:
    """Whether a running QEMU was leaving this overlay; or the disk is below it, and nobody needs it any more."""
    layers = reading.layers
    base = layers[path].base
    if base is None or base not in layers or layers[base].merging != path:
        return False
    return path.endswith(family.LEAVING) or (state.active == base and layers[base].merged and layers[base].copied)


def _refuse_needed(spec: SnapshotSpec, overlay: Layer) -> None:
    if overlay.children:
        raise refuse.refused(
            spec,
            "has_overlays",
            "an earlier merge is complete but for the removal of %s, and other images are built on that: %s"
            % (overlay.path, ", ".join(overlay.children[:5])),
            "Rebase or flatten those first.",
            {"overlays": list(overlay.children)},
        )


def _ends_it(spec: SnapshotSpec, state: SnapshotState) -> bool:
    """Whether the task is about the snapshot whose merge was begun."""
    asked = state.point(spec.name)
    return spec.state in ("absent", "committed") and asked is not None and asked.merging


def _name_of(state: SnapshotState, path: str) -> str:
    return next((point.name for point in state.points if point.path == path), "")


def _refuse_all_but_its_end(spec: SnapshotSpec, state: SnapshotState, base: str) -> None:
    """QEMU is about to leave the active layer: nothing can be put on it."""
    if not _ends_it(spec, state):
        raise unfinished(spec, _name_of(state, base), base, "committed")


def _may_be_compared(spec: SnapshotSpec, state: SnapshotState, reading: SnapshotReading, left: str) -> bool:
    low, top = reading.layers[t.cast(str, reading.layers[left].base)], reading.layers[left]
    stopped = reading.live is None and state.active == left
    return stopped and low.virtual_size == top.virtual_size and _ends_it(spec, state)


def ended_in_between(spec: SnapshotSpec, overlay: str, base: str, name: str = "") -> errors.RefusedError:
    """A VM has ended after it was told to leave the overlay. C(name): the snapshot whose merge is ended if both show the same;
    empty where they do not.
    """
    compared = "If both show the same, state=committed with name=%s finishes it. Else find" % name
    return refuse.refused(
        spec,
        "merge_unfinished",
        "%s was being merged into %s when the VM was stopped, and what it wrote last may be in either%s"
        % (overlay, base, "" if name else ", as they show different data"),
        "%s out which one is right: remove %s if it is %s; else copy what the former shows to a new image."
        % (compared if name else "Find", overlay, base),
        {"overlay": overlay, "base": base},
    )


def refuse_beside_a_merge(spec: SnapshotSpec, plan: Plan, reading: SnapshotReading) -> None:
    """A job that a killed run has begun holds the layers: nothing but its end can be done with them."""
    if not reading.live or not any(isinstance(action, _ON_LAYERS) for action in plan):
        return
    ended = {_job_of(action) for action in plan}
    for verb, path in reading.live.jobs:
        layer = reading.layers.get(path)
        point = reading.layers.get(str(layer.base)) if layer and verb == "stream" else layer
        if point and point.point and (verb, path) not in ended:
            raise unfinished(spec, point.point, path, "committed" if verb == "commit" else "streamed")


_ON_LAYERS = (layer_actions.AddOverlay, merge_actions.CommitOverlay, merge_actions.StreamBase)


def _job_of(action: actions.SnapshotAction) -> t.Optional[t.Tuple[str, str]]:
    if isinstance(action, (merge_actions.CommitOverlay, merge_actions.FinishMerge)):
        return "commit", action.base
    return ("stream", action.overlay) if isinstance(action, merge_actions.StreamBase) else None


def refuse_half_merged(
    spec: SnapshotSpec, layers: t.Mapping[str, Layer], touched: t.Collection[str], but: str = ""
) -> None:
    """What a killed run was merging must not get another name, base or content: only the end of that merge can tell what
    is where. C(but): the point's file whose merge is to be ended. Raises RefusedError.
    """
    refuse_forked(spec, layers)
    for path, layer in layers.items():
        if layer.merging and path != but and {path, layer.merging} & set(touched):
            raise unfinished(spec, str(layer.point), path, "committed")


def refuse_half_streamed(spec: SnapshotSpec, layers: t.Mapping[str, Layer], losing: t.Iterable[str]) -> None:
    """What a killed run has streamed and not removed is found by the name of the layer that has it now. C(losing): layers that
    go, or lose their name. Raises RefusedError.
    """
    for path in losing:
        left = layers.get(str(layers[path].streamed))
        if left is not None:
            raise unfinished(spec, str(left.point), path, "streamed")


def refuse_beside_half_streamed(spec: SnapshotSpec, layers: t.Mapping[str, Layer], others: t.Collection[str]) -> None:
    """What only has to be removed is not built on, and no point's file stays for it. C(others): what may be that."""
    for path, layer in layers.items():
        left = layers.get(str(layer.streamed))
        if left is not None and left.path in others:
            raise unfinished(spec, str(left.point), path, "streamed")


def refuse_forked(spec: SnapshotSpec, layers: t.Mapping[str, Layer]) -> None:
    """For any change of layers after a run was killed at the end of a merge, and both files were written to since."""
    for path, layer in layers.items():
        if layer.forked:
            raise refuse.refused(
                spec,
                "merge_unfinished",
                "%s had been merged into %s when a run was killed, and both have been written to since"
                % (layer.merging, path),
                "Find out which of them the VM uses. Remove %s if it is %s; else copy what the former shows to a new image."
                % (layer.merging, path),
                {"overlay": layer.merging, "base": path},
            )


def unfinished(spec: SnapshotSpec, name: str, path: str, state: str) -> errors.RefusedError:
    """A run was killed, or failed, in the middle of a merge, which has to be ended first."""
    return refuse.refused(
        spec,
        "merge_unfinished",
        "a merge of snapshot %s into %s was begun and not ended" % (name, path),
        "Finish it with state=%s and name=%s." % (state, name),
        {"path": path, "snapshot": name},
    )


def refuse_beside_lowest_streamed(spec: SnapshotSpec, plan: Plan, reading: SnapshotReading) -> None:
    """Only the end of the stream of a disk's lowest point, by a run that was killed, notes which file is the lowest now."""
    gone = {action.point.path for action in plan if isinstance(action, merge_actions.RemoveLayer)}
    for path, layer in reading.layers.items():
        left = reading.layers.get(str(layer.streamed)) if layer.lowest else None
        if left and left.path not in gone and any(isinstance(action, merge_actions.ON_LAYERS) for action in plan):
            raise unfinished(spec, str(left.point), path, "streamed")
