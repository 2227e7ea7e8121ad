"""After a merge that was killed: what it was about is left alone by everything but its end."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import RefusedError
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import (
    family,
    merge_actions,
    plan_merge,
)
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.plan import plan_snapshots
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import Retention, SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import (
    Layer,
    Point,
    SnapshotReading,
    SnapshotState,
)

MIB = 1 << 20
PATHS = ["/d/a.s0", "/d/a.s1", "/d/a.s2", "/d/a.s3", "/d/a"]


def planned(merging: int, asked: dict[str, t.Any], **merged: bool) -> list[str]:
    """The plan for a disk with s0 to s3, when a run was killed that merged layer C(merging) into the one below it."""
    layers = {}
    for at, path in enumerate(PATHS):
        base = PATHS[at - 1] if at else None
        layers[path] = Layer(path, "qcow2", MIB, base, "qcow2", tuple(PATHS[at + 1 : at + 2]))
        if at < len(PATHS) - 1:
            layers[path] = replace(layers[path], point="s%d" % at)
    below = PATHS[merging - 1]
    layers[below] = replace(layers[below], merging=PATHS[merging], **merged)
    points = tuple(
        Point("s%d" % at, "", family.content_of(layers, path), MIB, path, path == below, date=float(at))
        for at, path in enumerate(PATHS[:-1])
    )
    spec = SnapshotSpec("/d/a", "qcow2", kind="external", switch="rename", **asked)
    state = SnapshotState("/d/a", "external", "/d/a", None, MIB, "now", points, tuple(PATHS))
    header = Header("qcow2", MIB, cluster_size=65536)
    reading = SnapshotReading(header, kind="file", now=9.0, layers=layers, named="/d/a", switch="rename")
    return [str(action) for action in plan_snapshots(spec, state, reading)]


#: what is being merged -> what touches it
TOUCHED: list[tuple[int, dict[str, t.Any]]] = [
    (2, {"name": "s2", "state": "absent"}),
    (2, {"name": "s2", "state": "committed"}),
    (2, {"name": "s2", "state": "streamed"}),
    (2, {"name": "s0", "state": "absent"}),
    (2, {"name": "s0", "state": "streamed"}),
    (4, {"name": "s9", "state": "present"}),
    (4, {"name": "s0", "state": "reverted"}),
    (4, {"name": "s2", "state": "absent"}),
    (2, {"state": "pruned", "match": "s[023]", "retention": Retention(keep_last=1)}),
]


@pytest.mark.parametrize(("merging", "asked"), TOUCHED, ids=str)
def test_what_is_being_merged_is_not_touched(merging: int, asked: dict[str, t.Any]) -> None:
    with pytest.raises(RefusedError) as caught:
        planned(merging, asked)
    assert caught.value.reason == "merge_unfinished"
    assert "name=s%d" % (merging - 1) in caught.value.message


@pytest.mark.parametrize("state", ["absent", "committed", "streamed"])
def test_its_end_is_and_so_is_the_rest(state: str) -> None:
    assert planned(2, {"name": "s1", "state": state})[0].startswith("Merge snapshot s1")
    assert planned(2, {"name": "s3", "state": "absent"})[0].startswith("Merge snapshot s3")
    assert planned(2, {"name": "s9", "state": "present"})[0].startswith("Keep ")
    pruned = planned(2, {"state": "pruned", "match": "s[012]", "retention": Retention(keep_last=1)})
    assert [action.split()[2] for action in pruned] == ["s1", "s0"]


def test_what_is_merged_whole_is_not_copied_again() -> None:
    asked = {"name": "s1", "state": "committed"}
    assert planned(2, asked, copied=True) == [
        "Finish the merge of snapshot s1 of /d/a: all of /d/a.s2 is in /d/a.s1 already."
    ]
    with pytest.raises(RefusedError, match="both have been written to since"):
        planned(2, asked, forked=True)


def left(asked: dict[str, t.Any], link: str | None = None, name: str = "/d/top", **stages: t.Any) -> list[str]:
    """The plan for a disk in /d/low, on which a killed run has left the layer C(name); C(link): where the image leads."""
    disk, switch = "/d/low" if stages.get("merged") else name, "symlink" if link else "none"
    low = Layer("/d/low", "qcow2", MIB, "/d/s", "qcow2", (name,), merging=name)
    low = low if stages.get("merged") else replace(low, point="s0")
    top = Layer(name, "qcow2", MIB, "/d/low", "qcow2", children=stages.pop("clones", ()))
    below = Layer("/d/s", "qcow2", MIB, children=("/d/low",), point="s")
    layers = {"/d/s": below, "/d/low": replace(low, **stages), name: top}
    points = [Point("s", "", "?", MIB, "/d/s", date=0.0)]
    points += [Point("s0", "", "?", MIB, "/d/low", True, date=0.0)] if low.point else []
    state = SnapshotState("/d/a", "external", disk, link, MIB, "now", tuple(points), ("/d/s", "/d/low"))
    header = Header("qcow2", MIB, cluster_size=65536)
    reading = SnapshotReading(header, kind="file", now=9.0, layers=layers, named="/d/low", switch=switch)
    spec = SnapshotSpec("/d/a", "qcow2", kind="external", switch=switch, **asked)
    return [str(action).split()[0] for action in plan_snapshots(spec, state, reading)]


NOTHING, TAKEN = {"name": "none", "state": "absent"}, {"name": "s9"}
LEAVING = "/d/top.leaving~"


@pytest.mark.parametrize(("link", "name"), [(None, LEAVING), ("/d/top", LEAVING), ("/d/low", "/d/top")])
def test_a_layer_that_nobody_needs_goes_first(link: str | None, name: str) -> None:
    """And the link is led with it, so that no other step has to."""
    done = {"merged": True, "copied": True, "link": link, "name": name}
    assert left(NOTHING, **done) == ["Finish"]
    assert left(TAKEN, **done) == ["Finish", "Keep", *(["Lead"] if link else [])]
    assert left({"state": "pruned", "retention": Retention(keep_last=1)}, **done) == ["Finish"]
    assert left({"name": "s", "state": "reverted"}, **done) == ["Finish", "Revert"]


def test_it_stays_while_an_image_is_built_on_it() -> None:
    with pytest.raises(RefusedError) as caught:
        left(NOTHING, merged=True, copied=True, link="/d/low", clones=("/d/clone",))
    assert (caught.value.reason, caught.value.facts["evidence"]) == ("has_overlays", {"overlays": ["/d/clone"]})


@pytest.mark.parametrize("told", [False, True])
def test_what_a_vm_was_told_to_leave_is_nobodys_to_choose(told: bool) -> None:
    """Its end is planned, and refused by the guard where the two files show different data."""
    asked = {"name": "s0", "state": "committed"}
    if not told:
        assert left(asked, name=LEAVING) == ["Merge"]
        assert left(NOTHING, name=LEAVING) == []
        return
    assert left(asked, name=LEAVING, told=True) == ["Finish"]
    for each in (dict(asked, state="streamed"), NOTHING, TAKEN):
        with pytest.raises(RefusedError) as caught:
            left(each, name=LEAVING, told=True)
        assert caught.value.reason == "merge_unfinished"


def test_what_a_merge_wrote_to_is_not_what_it_was_when_it_goes_next() -> None:
    """A branch that is put onto another base."""
    tree = {"low": (None, ("mid",)), "mid": ("low", ("left", "top")), "left": ("mid", ()), "top": ("mid", ())}
    layers = {
        name: Layer(name, "qcow2", MIB, base, "qcow2", above, point=None if name == "top" else name, stamp=(1, 2, 3, 4))
        for name, (base, above) in tree.items()
    }
    layers["low"] = replace(layers["low"], merging="mid")
    points = tuple(Point(name, "", "?", MIB, name, name == "low", date=0.0) for name in ("low", "mid", "left"))
    state = SnapshotState("top", "external", "top", None, MIB, "now", points, ("low", "mid", "top"))
    reading = SnapshotReading(Header("qcow2", MIB, cluster_size=65536), kind="file", layers=layers, named="top")
    spec = SnapshotSpec("top", "qcow2", kind="external", switch="none")
    first, second = plan_merge.remove_points(spec, state, reading, [points[2], points[0]])
    assert isinstance(first, merge_actions.CommitOverlay) and first.above == ("left", "top")
    assert isinstance(second, merge_actions.RemoveLayer) and second.stamp is None


def half_streamed(asked: dict[str, t.Any], switch: str = "rename") -> list[str]:
    """The plan for a disk on s0, into which s1 was streamed, when the run was killed before s1 went."""
    layers = {
        "/d/s0": Layer("/d/s0", "qcow2", MIB, children=("/d/s1", "/d/a"), point="s0"),
        "/d/s1": Layer("/d/s1", "qcow2", MIB, "/d/s0", "qcow2", point="s1"),
        "/d/a": Layer("/d/a", "qcow2", MIB, "/d/s0", "qcow2", streamed="/d/s1"),
    }
    points = tuple(Point(name, "", name, MIB, "/d/" + name, date=0.0) for name in ("s0", "s1"))
    state = SnapshotState("/d/a", "external", "/d/a", None, MIB, "now", points, ("/d/s0", "/d/a"))
    header = Header("qcow2", MIB, cluster_size=65536)
    reading = SnapshotReading(header, kind="file", now=9.0, layers=layers, named="/d/a", switch=switch)
    spec = SnapshotSpec("/d/a", "qcow2", kind="external", switch=switch, **asked)
    return [str(action).split()[0] for action in plan_snapshots(spec, state, reading)]


def test_a_layer_keeps_its_name_until_what_was_streamed_into_it_is_removed() -> None:
    beside = [{"name": "s0", "state": state} for state in ("reverted", "absent", "streamed")]
    for asked in (TAKEN, *beside):
        with pytest.raises(RefusedError) as caught:
            half_streamed(asked)
        assert "name=s1" in caught.value.message
    assert half_streamed(TAKEN, "none") == ["Keep"]
    assert half_streamed({"name": "s1", "state": "absent"}) == ["Remove"]


def test_no_stranger_is_put_onto_a_layer_that_is_being_merged_down() -> None:
    """A point that others are built on stays when it is streamed, and is nobody's from then on."""
    tree = {"s0": (None, ("s1",)), "s1": ("s0", ("s2",)), "s2": ("s1", ("clone", "disk")), "disk": ("s2", ())}
    layers = {
        name: Layer(name, "qcow2", MIB, base, "qcow2", above, point=None if name == "disk" else name)
        for name, (base, above) in tree.items()
    }
    points = tuple(Point(name, "", "?", MIB, name, name == "s0", date=0.0) for name in ("s0", "s1", "s2"))
    state = SnapshotState("disk", "external", "disk", None, MIB, "now", points, ("s0", "s1", "s2", "disk"))
    reading = SnapshotReading(Header("qcow2", MIB, cluster_size=65536), kind="file", layers=layers, named="disk")
    spec = SnapshotSpec("disk", "qcow2", kind="external", switch="none", state="absent", name="s2")
    assert isinstance(plan_merge.remove_points(spec, state, reading, points[2:])[0], merge_actions.StreamBase)
    layers["s0"] = replace(layers["s0"], merging="s1")
    with pytest.raises(RefusedError, match="name=s0"):
        plan_merge.remove_points(spec, state, reading, points[2:])


def test_nobody_goes_back_to_the_lowest_snapshot_once_it_was_streamed() -> None:
    """The layers that were on it are not any more, and would not be found from it."""
    layers = {
        "/d/s0": Layer("/d/s0", "qcow2", MIB, point="s0"),
        "/d/s1": Layer("/d/s1", "qcow2", MIB, children=("/d/a",), point="s1", streamed="/d/s0"),
        "/d/a": Layer("/d/a", "qcow2", MIB, "/d/s1", "qcow2"),
    }
    points = tuple(Point(name, "", name, MIB, "/d/" + name, date=0.0) for name in ("s0", "s1"))
    state = SnapshotState("/d/a", "external", "/d/a", None, MIB, "now", points, ("/d/s1", "/d/a"))
    header = Header("qcow2", MIB, cluster_size=65536)
    reading = SnapshotReading(header, kind="file", now=9.0, layers=layers, named="/d/a", switch="none")
    spec = SnapshotSpec("/d/a", "qcow2", kind="external", switch="none", name="s0", state="reverted")
    with pytest.raises(RefusedError, match="name=s0"):
        plan_snapshots(spec, state, reading)
    assert len(plan_snapshots(replace(spec, name="s1"), state, reading)) == 1
    with pytest.raises(RefusedError, match="name=s0"):
        plan_snapshots(replace(spec, name="s1", state="streamed"), state, reading)
