"""Fifty at once on one disk: every snapshot that was acknowledged is there and holds what it should; and what check mode
asks of the kernel, and what a full file system leaves.
"""

from __future__ import annotations

import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.faults.test_check_mode import _TRACE, _mutation
from ansible_collections.platter.qemu.tests.faults.test_snapshot_kills import MODULE, STEPS, Step, Trials
from ansible_collections.platter.qemu.tests.lab import strace
from ansible_collections.platter.qemu.tests.lab.amounts import amount, generator
from ansible_collections.platter.qemu.tests.lab.beats import known
from ansible_collections.platter.qemu.tests.lab.loops import mounted
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.patterns import check_status, files_of
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, disk, held, names_in
from ansible_collections.platter.qemu.tests.lab.zygote import RACE_SECONDS, Zygote

Count = t.Callable[[str, int], None]
Result = t.Dict[str, t.Any]
RACERS = 50


def _together(zygote: Zygote, tasks: t.Sequence[Result]) -> list[Result]:
    """All begun at the same time; their results. A traceback fails."""
    children = [zygote.start(MODULE, dict(task, lock_timeout=RACE_SECONDS), stopped=True) for task in tasks]
    for child in children:
        child.go_on()
    for child in children:
        child.wait()
    return [child.result() for child in children]


def _tasks(one: Disk, number: int) -> list[Result]:
    """Each name is taken by some and removed by others; some names are only taken."""
    dice = generator(f"snapshots {one.kind} {number}")
    names = [f"n{each}" for each in range(12)]
    tasks = [one.task(name=name) for name in names for _twice in range(2)]
    tasks += [one.task(name=name, state="absent") for name in names[:6] for _twice in range(2)]
    if one.kind == "internal":
        tasks += [
            one.task(bitmaps=[{"name": f"b{each % 3}", "state": dice.choice(["present", "absent"])}])
            for each in range(8)
        ]
        tasks += [one.task(state="pruned", match="old*", retention={"keep_last": 2})] * 6
    else:
        tasks += [one.task(name="n11", state="reverted", save=False)] * 4
    dice.shuffle(tasks)
    return tasks[:RACERS]


@pytest.mark.parametrize("kind", ["internal", "external"])
@pytest.mark.parametrize("number", range(amount(1, 20)))
def test_what_was_acknowledged_is_there(kind: str, number: int, zygote: Zygote, place: Path, count: Count) -> None:
    one = disk(place, kind, "rename" if kind == "external" else "none")
    seen = held(one.image)
    results = _together(zygote, _tasks(one, number))
    for result in results:
        assert not result.get("failed") or result.get("reason") == "snapshot_missing", result["msg"]
    last = call(MODULE, check=True, **one.task(name="no such", state="absent"))["snapshot"]
    there = [each["name"] for each in last["snapshots"]]
    assert len(set(there)) == len(there)
    assert {f"n{each}" for each in range(6, 12)} <= set(there)
    _serialisable(results, there)
    for each in last["snapshots"]:
        assert (held(each["path"]) if "path" in each else held(one.image, "qcow2", each["name"])) == seen
    assert held(one.image) == seen
    for path in one.image.parent.iterdir():
        assert check_status(path, "qcow2") == 0, path
    if kind == "internal":
        assert sorted(names_in(one.image)) == sorted(there)
        assert [path.name for path in one.image.parent.iterdir()] == [one.image.name]
    else:
        assert {path.name for path in one.image.parent.iterdir()} == {Path(name).name for name in last["layers"]}
    count("processes racing", len(results))


def _serialisable(results: t.Sequence[Result], there: t.Sequence[str]) -> None:
    """Of each name, as often taken as removed, and once more if it is there now."""
    for name in {f"n{each}" for each in range(12)}:
        words = [action.split() for result in results if result["changed"] for action in result["actions"]]
        taken = sum(1 for each in words if each[0] in ("Take", "Keep") and name in each)
        gone = sum(1 for each in words if each[0] in ("Delete", "Merge", "Remove") and name in each)
        assert taken - gone == (name in there), (name, taken, gone, there)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_check_mode_changes_nothing_and_predicts_all(step: Step, zygote: Zygote, place: Path, count: Count) -> None:
    trials = Trials(step, zygote, place)
    trials.reset()
    before = files_of(trials.world)
    child = zygote.start(MODULE, trials.options, check=True, stopped=True)
    with strace.tracing(child, place / "check.log", "-e", _TRACE):
        pass
    child.wait()
    calls = strace.calls_of(place / "check.log")
    mutations = [each for each in calls if _mutation(each)]
    assert not mutations, "\n".join(f"{each.name}({each.text}" for each in mutations)
    assert calls, "strace saw nothing"
    assert files_of(trials.world) == before
    predicted, done = child.result(), zygote.run(MODULE, trials.options)
    for key in ("changed", "actions", "diff", "failed", "reason"):
        assert predicted.get(key) == done.get(key), (key, predicted.get(key), done.get(key))
    assert known(predicted, ()) == known(done, ())
    count("system calls of check mode looked at", len(calls))


@pytest.mark.parametrize("switch", ["rename", "symlink"])
@pytest.mark.parametrize("name", ["s1", "s2", "s3"])
def test_a_full_file_system_leaves_the_old_disk(name: str, switch: str, place: Path) -> None:
    """C(s3) is taken, C(s1) gone back to, C(s2) streamed into a layer that has no room to grow."""
    small = place / "small"
    small.mkdir()
    with mounted("tmpfs", small, "-t", "tmpfs", "-o", "size=8m"):
        one = disk(small, "external", switch)
        for number, each in enumerate(("s1", "s2"), 3):
            one.write(number, 0, 1 << 20)
            assert call(MODULE, **one.task(name=each))["changed"]
            one.then[each] = ""
            one.active = Path(call(MODULE, check=True, **one.task(name=each))["snapshot"]["active"])
        one.write(9, 0, 4096)
        seen = held(one.image)
        _fill(small / "filler")
        options = {"s1": {"state": "reverted"}, "s2": {"state": "streamed"}, "s3": {}}[name]
        result = call(MODULE, **one.task(name=name, **options))
        assert result["failed"] and result["msg"].startswith("failed at"), result
        assert held(one.image) == seen
        (small / "filler").unlink()
        again = call(MODULE, **one.task(name=name, **options))
        assert not again.get("failed") and again["changed"], again
        assert held(one.image) == seen or name == "s1"
        assert call(MODULE, **one.task(name=name, **options))["changed"] is False


def _fill(path: Path) -> None:
    subprocess.run(["dd", "if=/dev/zero", f"of={path}", "bs=4096"], capture_output=True, check=False)
