"""What is planned for a disk that a running QEMU has open, whose chain is a part of the layers that there are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import RefusedError
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import family, merge_actions
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.plan import plan_snapshots
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import (
    Layer,
    Live,
    Point,
    SnapshotReading,
    SnapshotState,
)

MIB = 1 << 20
HEADER = Header("qcow2", MIB, cluster_size=65536)
#: the disk is built on s1; s2 and what was left when somebody went back from it are a branch beside it
TREE = {"s1": None, "s2": "s1", "left": "s2", "disk": "s1"}


def reading(*running: str, tree: dict[str, str | None] | None = None, **merging: str) -> SnapshotReading:
    """C(running): the layers that QEMU has open. C(merging): base -> overlay, of merges that were begun."""
    tree = tree or TREE
    layers = {
        name: Layer(
            name,
            "qcow2",
            MIB,
            base,
            "qcow2" if base else None,
            children=tuple(each for each, below in tree.items() if below == name),
            point=None if name == "disk" else name,
            merging=merging.get(name),
        )
        for name, base in tree.items()
    }
    live = Live("/qmp", frozenset([1]), "disk", "node", "node", {name: f"node-{name}" for name in running})
    return SnapshotReading(HEADER, kind="file", detected=("qcow2",), layers=layers, named="disk", live=live)


def state(seen: SnapshotReading) -> SnapshotState:
    found = [(name, layer) for name, layer in seen.layers.items() if layer.point]
    points = tuple(Point(name, "", None, MIB, name, merging=bool(layer.merging)) for name, layer in found)
    return SnapshotState("disk", "external", "disk", None, MIB, None, points, family.layers_up(seen.layers, "disk"))


def planned(seen: SnapshotReading, name: str, wanted: str = "absent") -> list[type]:
    spec = SnapshotSpec("disk", "qcow2", kind="external", state=wanted, name=name, switch="none", qmp_socket="/qmp")
    return [type(action) for action in plan_snapshots(spec, state(seen), seen)]


def refusal(seen: SnapshotReading, name: str, wanted: str = "absent") -> tuple[str, str]:
    with pytest.raises(RefusedError) as caught:
        planned(seen, name, wanted)
    return caught.value.reason, caught.value.facts["evidence"].get("path")


@pytest.mark.parametrize(("name", "kind"), [("left", "RemoveLayer"), ("s2", "CommitOverlay")])
def test_what_qemu_does_not_have_open_goes_all_the_same(name: str, kind: str) -> None:
    assert [each.__name__ for each in planned(reading("s1", "disk"), name)] == [kind]


@pytest.mark.parametrize(("running", "name", "differs"), [("disk", "s1", "s1"), ("s1 s2 disk", "s2", "left")])
def test_a_merge_of_which_qemu_has_one_file_open(running: str, name: str, differs: str) -> None:
    assert refusal(reading(*running.split()), name) == ("chain_differs", differs)


def test_a_layer_that_qemu_has_open_though_nothing_is_built_on_it() -> None:
    assert refusal(reading("s1", "left", "disk"), "left") == ("chain_differs", "left")


def test_a_stream_onto_what_qemu_does_not_have_open() -> None:
    chain = {"s1": None, "s2": "s1", "disk": "s2"}
    assert refusal(reading("s2", "disk", tree=chain), "s2", "streamed") == ("chain_differs", "s1")
    assert planned(reading("s1", "s2", "disk", tree=chain), "s2", "streamed") == [merge_actions.StreamBase]


def test_an_overlay_that_qemu_let_go_counts_as_merged_only_if_it_was_noted() -> None:
    chain = {"s1": None, "s2": "s1", "disk": "s1"}
    seen = reading("s1", "disk", tree=chain, s1="s2")
    assert refusal(seen, "s1") == ("chain_differs", "s2")
    noted = {**seen.layers, "s1": replace(seen.layers["s1"], copied=True)}
    assert planned(replace(seen, layers=noted), "s1") == [merge_actions.CommitOverlay]


def test_what_was_being_left_goes_if_it_was_noted_or_the_job_is_there() -> None:
    seen = reading("s1", tree={"s1": None, "s1.leaving~": "s1"}, s1="s1.leaving~")
    layers = {name: replace(layer, point=None) for name, layer in seen.layers.items()}
    base = replace(seen, layers=layers, live=replace(seen.live, active="s1"), named="s1")
    assert finished(base) == "merge_unfinished"
    job = replace(base, live=replace(base.live, jobs=(("commit", "s1"),)))
    assert finished(job) == "FinishMerge"
    assert finished(replace(base, layers={**layers, "s1": replace(layers["s1"], copied=True)})) == "FinishMerge"


def finished(seen: SnapshotReading) -> str:
    spec = SnapshotSpec("s1", "qcow2", kind="external", state="absent", name="x", switch="none", qmp_socket="/qmp")
    before = SnapshotState("s1", "external", "s1", None, MIB, None, (), ("s1",))
    try:
        (action,) = plan_snapshots(spec, before, seen)
    except RefusedError as exc:
        return exc.reason
    return type(action).__name__
