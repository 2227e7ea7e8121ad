"""From asked and so to steps: a plan leaves nothing to do, and what it is not asked for stays."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import RefusedError
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import family
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.actions import SnapshotAction
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.merge_actions import CommitOverlay, StreamBase
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.plan import plan_snapshots
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import BitmapSpec, Retention, SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import (
    Amount,
    BitmapState,
    Layer,
    Point,
    SnapshotReading,
    SnapshotState,
)

MIB = 1 << 20
NOW = 1_700_000_000.0
NAMES = ["a", "b", "c", "d", "a.undone"]
Planned = t.Tuple[SnapshotSpec, SnapshotState, SnapshotReading]

SPECS = st.one_of(
    st.builds(dict, state=st.sampled_from(["present", "absent", "reverted"]), name=st.sampled_from(NAMES)),
    st.builds(
        dict,
        state=st.just("reverted"),
        name=st.sampled_from(NAMES),
        save=st.booleans(),
    ),
    st.builds(
        dict,
        state=st.just("pruned"),
        match=st.sampled_from(["*", "a*", "[bc]"]),
        retention=st.builds(Retention, keep_last=st.integers(0, 3), max_depth=st.none() | st.integers(1, 3)),
    ),
)
BITMAPS = st.lists(
    st.builds(
        BitmapSpec,
        name=st.sampled_from("xyz"),
        present=st.booleans(),
        enabled=st.none() | st.booleans(),
        granularity=st.none() | st.just(65536),
    ),
    unique_by=lambda each: each.name,
    max_size=3,
)


@st.composite
def internal(draw: st.DrawFn) -> Planned:
    """An image with some snapshots and bitmaps; two contents are equal now and then."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    content = st.sampled_from(["0", "1", "2"])
    points = [
        Point(name, str(at + 1), draw(content), draw(st.sampled_from([MIB, 2 * MIB])), date=_date(at, names))
        for at, name in enumerate(names)
    ]
    asked = draw(SPECS)
    bitmaps = [
        BitmapState(name, draw(st.booleans()), 65536) for name in draw(st.lists(st.sampled_from("xyz"), unique=True))
    ]
    if asked["state"] == "present":
        asked["bitmaps"] = tuple(draw(BITMAPS))
    spec = SnapshotSpec("/d/a", "qcow2", **asked)
    state = SnapshotState(
        "/d/a",
        "internal",
        "/d/a",
        None,
        MIB,
        draw(content),
        tuple(points),
        bitmaps=tuple(sorted(bitmaps, key=lambda each: each.name)),
    )
    header = Header("qcow2", MIB, cluster_size=65536)
    return spec, state, SnapshotReading(header, kind="file", detected=("qcow2",), now=NOW)


def _date(at: int, names: t.Sequence[str]) -> float:
    """One a day, the newest yesterday."""
    return NOW - 86400.0 * (len(names) - at)


@st.composite
def external(draw: st.DrawFn) -> Planned:
    """A disk of some layers in a row, some of them with another image on them."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
    paths = [f"/d/web1.{name}.qcow2" for name in names] + ["/d/web1.qcow2"]
    others = {path: (f"{path}.other",) if draw(st.integers(0, 5)) == 0 else () for path in paths}
    sizes = draw(st.lists(st.sampled_from([MIB, MIB, MIB, 2 * MIB]), min_size=len(paths), max_size=len(paths)))
    layers = {}
    for at, path in enumerate(paths):
        on = paths[at + 1 : at + 2]
        base = paths[at - 1] if at else None
        layers[path] = Layer(
            path,
            "qcow2",
            sizes[at],
            base,
            "qcow2" if base else None,
            children=(*on, *others[path]),
            data=Amount(draw(st.sampled_from([0, 65536]))),
            empty=bool(base) and sizes[at] == sizes[at - 1] and draw(st.booleans()),
            point=names[at] if at < len(names) else None,
        )
    for path, found in others.items():
        kind = draw(st.sampled_from(["clone", "retired", "disk"]))
        for each in found if kind != "clone" else ():
            layers[each] = Layer(each, "qcow2", MIB, path, "qcow2", retired=kind == "retired")
    asked = draw(
        st.one_of(SPECS, st.builds(dict, state=st.sampled_from(["committed", "streamed"]), name=st.sampled_from(NAMES)))
    )
    spec = SnapshotSpec("/d/web1.qcow2", "qcow2", kind="external", switch="rename", **asked)
    return spec, _state(spec, layers, names, paths), _reading(layers)


def _state(spec: SnapshotSpec, layers: dict[str, Layer], names: list[str], paths: list[str]) -> SnapshotState:
    points = [
        Point(name, "", family.content_of(layers, path), layers[path].virtual_size, path, date=_date(at, names))
        for at, (name, path) in enumerate(zip(names, paths))
    ]
    active = paths[-1]
    size, content = layers[active].virtual_size, family.content_of(layers, active)
    return SnapshotState(
        spec.image, "external", active, None, size, content, tuple(points), family.layers_up(layers, active)
    )


def _reading(layers: dict[str, Layer]) -> SnapshotReading:
    header = Header("qcow2", MIB, cluster_size=65536)
    return SnapshotReading(
        header,
        kind="file",
        detected=("qcow2",),
        now=NOW,
        layers=layers,
        named="/d/web1.qcow2",
        taken_names=frozenset(layers),
    )


def planned(asked: Planned) -> list[SnapshotAction]:
    """The plan; examples that are refused do not count."""
    try:
        return plan_snapshots(*asked)
    except RefusedError:
        assume(False)
        raise


@given(internal())
def test_a_plan_leaves_nothing_to_do(asked: Planned) -> None:
    spec, before, reading = asked
    plan = planned(asked)
    after = predict(before, plan)
    points = tuple(replace(point, date=NOW) if point.date is None else point for point in after.points)
    assert plan_snapshots(spec, replace(after, points=points), reading) == []


@given(internal())
def test_what_is_not_asked_for_stays(asked: Planned) -> None:
    spec, before, _reading = asked
    after = predict(before, planned(asked))
    gone = set(before.names) - set(after.names)
    assert gone <= ({spec.name} if spec.state == "absent" else set(before.names) if spec.state == "pruned" else set())
    if spec.state != "reverted":
        assert (after.content, after.virtual_size) == (before.content, before.virtual_size)
    elif spec.save and before.content != after.content:
        assert before.content in {point.content for point in after.points}, "what was there is lost"


@given(external())
def test_no_merge_writes_into_what_others_are_built_on(asked: Planned) -> None:
    spec, before, reading = asked
    plan = planned(asked)
    foreign = {
        path for path, layer in reading.layers.items() if any(each.endswith(".other") for each in layer.children)
    }
    for action in plan:
        if isinstance(action, CommitOverlay):
            assert not {action.base, action.overlay} & foreign
        if isinstance(action, StreamBase):
            assert action.keeps or action.base not in foreign
    after = predict(before, plan)
    if spec.state not in ("reverted", "present"):
        assert after.virtual_size == before.virtual_size
        gone = set(before.names) - set(after.names)
        assert spec.state == "pruned" or gone <= {spec.name}
        assert spec.state == "pruned" or spec.name not in after.names


@given(external())
def test_the_points_that_stay_have_different_files(asked: Planned) -> None:
    after = predict(asked[1], planned(asked))
    paths = [point.path for point in after.points]
    assert len(set(paths)) == len(paths)
    assert after.active not in paths
    assert after.layers[-1] == after.active


@pytest.mark.parametrize("state", ["absent", "streamed"])
@pytest.mark.parametrize("other", ["clone", "retired", "disk"])
def test_a_snapshot_that_another_disk_has_too_is_not_taken_away(state: str, other: str) -> None:
    layers = {
        "s1": Layer("s1", "qcow2", MIB, children=("disk", "other"), point="s1"),
        "disk": Layer("disk", "qcow2", MIB, "s1", "qcow2"),
        "other": Layer("other", "qcow2", MIB, "s1", "qcow2", retired=other == "retired"),
    }
    if other == "clone":
        layers.pop("other")
    spec = SnapshotSpec("disk", "qcow2", kind="external", switch="rename", state=state, name="s1")
    points = (Point("s1", "", None, MIB, "s1"),)
    asked = spec, SnapshotState("disk", "external", "disk", None, MIB, None, points), _reading(layers)
    if other == "disk":
        with pytest.raises(RefusedError, match="another disk, other, has s1 as its snapshot too"):
            plan_snapshots(*asked)
    else:
        (step,) = plan_snapshots(*asked)
        assert isinstance(step, StreamBase) and step.keeps


@pytest.mark.parametrize(("format", "way_out"), [("qcow2", "Set kind to internal"), ("luks", "Make a qcow2 image")])
def test_an_encrypted_disk_is_told_of_a_way_that_there_is(format: str, way_out: str) -> None:
    header = Header(format, MIB, encrypted=True, options={"encrypt_format": "luks"} if format == "qcow2" else {})
    reading = replace(_reading({"/d/a": Layer("/d/a", format, MIB)}), header=header)
    spec = SnapshotSpec("/d/a", format, kind="external", switch="none", name="s1")
    with pytest.raises(RefusedError, match=way_out) as caught:
        plan_snapshots(spec, SnapshotState("/d/a", "external", "/d/a"), reading)
    assert caught.value.reason == "image_encrypted"
    assert caught.value.facts["evidence"] == {"format": format, "encryption": "luks"}
