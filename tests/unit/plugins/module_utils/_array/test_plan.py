"""From asked and so to steps: a plan leaves nothing to do, and no leg is given up that may hold what others do not."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._array import actions, plan
from ansible_collections.platter.qemu.plugins.module_utils._array.spec import ArraySpec, Leg
from ansible_collections.platter.qemu.plugins.module_utils._array.state import (
    ArrayReading,
    ArrayState,
    Assembled,
    LegReading,
)
from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._formats.md_superblock import Superblock

UUID, OTHER = "6f9b0c1e-6f0c-4c43-9a5e-0f4b3a0d7c11", "00000000-1111-2222-3333-444444444444"
RAID1 = Assembled("raid1", 2, "bitmap")


def spec_of(level: str = "raid1", legs: str = "ab", **more: t.Any) -> ArraySpec:
    listed = tuple(Leg(name, "/dev/platter/" + name, "server-" + name) for name in legs)
    return ArraySpec("data", UUID, level=level, legs=listed, **more)


def sb(slot: int, events: int, active: t.Iterable[int] = (0, 1), **more: t.Any) -> Superblock:
    known = {"uuid": UUID, "level": 1, "disks": 2, "policy": "bitmap", "leg": "leg%d" % slot, **more}
    return Superblock(name="data", slot=slot, events=events, active=frozenset(active), **known)


#: the second leg of an array whose first was replaced, by its third disk
REPLACED: t.Dict[str, t.Any] = {"number": 1, "holders": frozenset({(0, 2), (1, 1)})}
OLD: t.Dict[str, t.Any] = {"number": 0, "holders": frozenset({(0, 0)})}
BLANK = LegReading(True, "nbd0", contents=())
MISSING = LegReading()


def away(superblock: Superblock, **more: t.Any) -> LegReading:
    return LegReading(True, "nbd0", contents=("linux_raid_member",), superblock=superblock, **more)


def inside(superblock: Superblock, status: str = "in_sync", **more: t.Any) -> LegReading:
    return replace(away(superblock, **more), status=status, slot=superblock.slot)


def reading_of(*legs: LegReading, **more: t.Any) -> ArrayReading:
    return ArrayReading(legs=dict(zip("abcd", legs)), program="/sbin/mdadm", **more)


def running(members: str, *legs: LegReading, **more: t.Any) -> t.Tuple[ArrayState, ArrayReading]:
    state = ArrayState("data", RAID1, frozenset(members), frozenset(more.pop("faulty", ())))
    return state, reading_of(*legs, path="/dev/md127", running=more.pop("running", "clean"), **more)


def steps(spec: ArraySpec, state: ArrayState, reading: ArrayReading) -> t.List[str]:
    """Kinds of the steps with the legs that they are about; or the reason of the refusal."""
    try:
        found = plan.plan_array(spec, state, reading)
    except errors.RefusedError as exc:
        return [exc.reason]
    assert plan.plan_array(spec, predict(state, found), settled(spec, predict(state, found), reading)) == []
    return [type(step).__name__ + _about(step) for step in found]


def _about(step: t.Any) -> str:
    names = getattr(step, "legs", ()) or getattr(step, "leg", "") or getattr(step, "devices", ())
    return " " + " ".join(names) if names else ""


def settled(spec: ArraySpec, state: ArrayState, reading: ArrayReading) -> ArrayReading:
    """What is read once the steps have been done, where nothing else has happened."""

    def now(slot: int, name: str, leg: LegReading) -> LegReading:
        if name in state.members:
            return leg if leg.status else inside(sb(slot, 99))
        return MISSING if leg.lost else replace(leg, status="", slot=None)

    legs = {name: now(slot, name, leg) for slot, (name, leg) in enumerate(reading.legs.items())}
    return replace(reading, legs=legs, running="clean" if state.assembled else "", path="/dev/md127")


NOT_RUNNING: t.Sequence[t.Tuple[str, t.Sequence[LegReading], t.Mapping[str, t.Any], str]] = [
    ("blank legs become an array", [BLANK, BLANK], {}, "CreateArray a b"),
    ("but not where nobody is asked", [BLANK, BLANK], {"may_be_new": False}, "leg_blank"),
    ("but only all of them", [BLANK, MISSING], {}, "legs_missing"),
    ("what a killed run has made is made again", [away(sb(0, 0)), BLANK], {}, "CreateArray a b"),
    ("what is there is started", [away(sb(0, 7)), away(sb(1, 7))], {}, "AssembleArray a b"),
    ("one event behind is nothing", [away(sb(0, 7)), away(sb(1, 8))], {}, "AssembleArray a b"),
    ("a stale leg comes after", [away(sb(0, 4)), away(sb(1, 9, [1]))], {}, "AssembleArray b|ReAddLeg a"),
    ("stale, and the newer one does not know", [away(sb(0, 4)), away(sb(1, 9))], {}, "AssembleArray b|ReAddLeg a"),
    ("what knows that it is alone may be", [away(sb(0, 9, [0])), MISSING], {}, "AssembleArray a"),
    ("what may be older may not", [away(sb(0, 9)), MISSING], {}, "legs_missing"),
    ("nor where the other is lost", [away(sb(0, 9)), LegReading(True, "nbd1", True)], {}, "legs_missing"),
    ("unless a person agrees", [away(sb(0, 9)), MISSING], {"start_degraded": True}, "AssembleArray a"),
    ("each has gone on alone", [away(sb(0, 9, [0])), away(sb(1, 7, [1]))], {}, "leg_diverged"),
    ("and no consent helps", [away(sb(0, 9, [0])), away(sb(1, 7, [1]))], {"start_degraded": True}, "leg_diverged"),
    ("another array's leg", [away(sb(0, 9)), away(sb(1, 9, uuid=OTHER))], {}, "leg_foreign"),
    ("a file system", [BLANK, LegReading(True, "nbd1", contents=("ext4",))], {}, "leg_foreign"),
    ("in another array", [BLANK, LegReading(True, "nbd1", contents=(), holder="md3")], {}, "leg_foreign"),
    ("one disk by two names", [away(sb(0, 9)), away(sb(0, 9))], {}, "leg_foreign"),
    ("a blank disk for a leg", [away(sb(0, 9, [0])), BLANK], {}, "leg_blank"),
    ("if it is meant", [away(sb(0, 9, [0])), BLANK], {"fill": ("b",)}, "AssembleArray a|FillLeg b"),
    ("but not if the leg may be newer", [away(sb(0, 9)), BLANK], {"fill": ("b",)}, "legs_missing"),
    ("an array of another kind", [away(sb(0, 9, level=5)), away(sb(1, 9, level=5))], {}, "exists_different"),
    ("as the newest leg says", [away(sb(0, 8)), away(sb(1, 9, disks=1 << 32))], {}, "exists_different"),
    ("and not a stale one", [away(sb(0, 4, disks=3)), away(sb(1, 9, [1]))], {}, "AssembleArray b|ReAddLeg a"),
    ("one that is being reshaped", [away(sb(0, 9, reshaping=True)), away(sb(1, 9))], {}, "array_reshaping"),
    ("one that was replaced", [away(sb(0, 4, number=0)), away(sb(1, 9, **REPLACED))], {}, "legs_missing"),
    ("which has gone on alone", [away(sb(0, 99, [0], **OLD)), away(sb(1, 9, **REPLACED))], {}, "leg_diverged"),
    (
        "or if that is lost",
        [away(sb(0, 4, number=0)), away(sb(1, 9, **REPLACED))],
        {"start_degraded": True},
        "AssembleArray b|ReAddLeg a",
    ),
    ("what has replaced it", [away(sb(0, 9, number=2)), away(sb(1, 9, **REPLACED))], {}, "AssembleArray a b"),
    ("half filled is not enough", [MISSING, away(sb(1, 9, partial=True))], {"start_degraded": True}, "not_enough_legs"),
]


@pytest.mark.parametrize(("legs", "more", "due"), [case[1:] for case in NOT_RUNNING], ids=[c[0] for c in NOT_RUNNING])
def test_what_is_started(legs: t.Sequence[LegReading], more: t.Mapping[str, t.Any], due: str) -> None:
    assert steps(spec_of(**more), ArrayState("data"), reading_of(*legs)) == due.split("|")


GONE = replace(inside(sb(1, 9)), lost=True, superblock=None)
FAULTY = LegReading(True, "nbd1", True, status="faulty")
RUNNING: t.Sequence[t.Tuple[str, str, t.Sequence[LegReading], t.Mapping[str, t.Any], str]] = [
    ("all are in it", "ab", [inside(sb(0, 9)), inside(sb(1, 9))], {}, ""),
    ("one is being filled", "ab", [inside(sb(0, 9)), inside(sb(1, 9), "recovering")], {}, ""),
    ("one is missing", "a", [inside(sb(0, 9)), MISSING], {}, ""),
    ("md has noticed", "a", [inside(sb(0, 9)), FAULTY], {"faulty": ["nbd1"]}, "RemoveFaulty nbd1"),
    ("md has not noticed", "ab", [inside(sb(0, 9)), GONE], {}, "DropLeg b"),
    ("it is back", "a", [inside(sb(0, 9, [0])), away(sb(1, 7))], {}, "ReAddLeg b"),
    (
        "back, as another device",
        "a",
        [inside(sb(0, 9)), away(sb(1, 7))],
        {"faulty": ["nbd7"]},
        "RemoveFaulty nbd7|ReAddLeg b",
    ),
    ("it has gone on alone", "a", [inside(sb(0, 9, [0])), away(sb(1, 7, [1]))], {}, "leg_diverged"),
    ("it is newer", "a", [inside(sb(0, 9, [0])), away(sb(1, 17))], {}, "leg_diverged"),
    ("a blank disk", "a", [inside(sb(0, 9)), BLANK], {}, "leg_blank"),
    ("a foreign leg", "a", [inside(sb(0, 9)), away(sb(1, 9, uuid=OTHER))], {}, "leg_foreign"),
    ("all are lost", "ab", [replace(inside(sb(0, 9)), lost=True), GONE], {}, "array_failed"),
    ("md has given up", "a", [inside(sb(0, 9)), MISSING], {"running": "broken"}, "array_failed"),
    (
        "somebody has added one",
        "ab",
        [inside(sb(0, 9)), inside(sb(1, 9))],
        {"others": ("/dev/sdb",)},
        "member_unlisted",
    ),
]


@pytest.mark.parametrize(
    ("members", "legs", "more", "due"), [case[1:] for case in RUNNING], ids=[case[0] for case in RUNNING]
)
def test_what_runs(members: str, legs: t.Sequence[LegReading], more: t.Mapping[str, t.Any], due: str) -> None:
    state, reading = running(members, *legs, **more)
    assert steps(spec_of(), state, reading) == [step for step in due.split("|") if step]


def test_a_blank_leg_is_filled_if_it_is_meant() -> None:
    state, reading = running("a", inside(sb(0, 9)), BLANK)
    assert steps(spec_of(fill=("b",)), state, reading) == ["FillLeg b"]


def test_raid5_needs_all_but_one_and_never_more_than_md_believes() -> None:
    five: t.Dict[str, t.Any] = {"level": 5, "disks": 3}
    fresh, stale = sb(0, 9, [0, 1, 2], **five), sb(1, 3, [0, 1, 2], **five)
    third = sb(2, 9, [0, 1, 2], **five)
    spec = spec_of("raid5", "abc")
    assert steps(spec, ArrayState("data"), reading_of(away(fresh), away(stale), away(third))) == [
        "AssembleArray a c",
        "ReAddLeg b",
    ]
    older = third._replace(events=3)
    assert steps(spec, ArrayState("data"), reading_of(away(fresh), away(stale), away(older))) == ["not_enough_legs"]


def test_an_array_that_is_used_is_not_stopped() -> None:
    spec = spec_of(state="absent")
    state, reading = running("ab", inside(sb(0, 9)), inside(sb(1, 9)), users=("mount /mnt",))
    assert steps(spec, state, reading) == ["array_busy"]
    assert steps(spec, state, replace(reading, users=())) == ["StopArray"]
    assert steps(spec, ArrayState("data"), reading) == []
    assert steps(spec, ArrayState("data", pieces=True), replace(reading, users=())) == ["StopArray"]


def test_what_cannot_be_done_without_mdadm_is_refused_and_what_is_so_is_told() -> None:
    without = replace(reading_of(BLANK, BLANK), program="")
    assert steps(spec_of(), ArrayState("data"), without) == ["tool_missing"]
    state, reading = running("ab", inside(sb(0, 9)), inside(sb(1, 9)))
    assert steps(spec_of(), state, replace(reading, program="")) == []


def legs_in(slot: int) -> st.SearchStrategy[LegReading]:
    """All that can be found in the place of a leg."""
    superblocks = st.builds(
        sb,
        st.just(slot),
        st.integers(0, 12),
        st.sets(st.integers(0, 1)),
        uuid=st.sampled_from([UUID, UUID, UUID, OTHER]),
        partial=st.sampled_from([False, False, True]),
    )
    inside_too = superblocks.map(lambda each: each._replace(uuid=UUID))
    return st.one_of(
        st.sampled_from([MISSING, BLANK, FAULTY, GONE]),
        superblocks.map(away),
        inside_too.map(inside),
        inside_too.map(lambda each: inside(each, "recovering")),
    )


@given(st.tuples(legs_in(0), legs_in(1)), st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_a_plan_leaves_nothing_to_do(
    legs: t.Sequence[LegReading], runs: bool, pieces: bool, degraded: bool, filled: bool
) -> None:
    members = frozenset(name for name, leg in zip("ab", legs) if leg.status not in ("", "faulty"))
    faulty = frozenset("nbd%d" % each for each, leg in enumerate(legs) if leg.status == "faulty")
    state = ArrayState("data", RAID1, members, faulty) if runs else ArrayState("data", pieces=pieces)
    if not runs:
        legs = [replace(leg, status="", slot=None) for leg in legs]
    spec = spec_of(start_degraded=degraded, fill=("a", "b") if filled else ())
    found = steps(spec, state, reading_of(*legs, running="clean" if runs else ""))
    touched = {leg for step in found if step.startswith(("CreateArray", "FillLeg")) for leg in step.split()[1:]}
    for name, leg in zip("ab", legs):
        superblock = leg.superblock
        # what is written over is blank, or was never in use
        assert name not in touched or superblock is None or superblock.events == 0
        assert superblock is None or superblock.uuid == UUID or not any(step.split()[1:] == [name] for step in found)


def test_the_steps_are_sentences() -> None:
    said = [
        str(actions.CreateArray("data", RAID1, ("a", "b"))),
        str(actions.AssembleArray("data", RAID1, ("a",))),
        str(actions.ReAddLeg("data", "b")),
    ]
    assert said == [
        "Make array data (raid1, bitmap) of a and b.",
        "Start array data (raid1) of a, degraded.",
        "Add leg b to array data again.",
    ]
