"""Fifty at once on one image: some serial order explains every answer, and nothing that was acknowledged is lost."""

from __future__ import annotations

import collections
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab.amounts import amount, generator
from ansible_collections.platter.qemu.tests.lab.oracle import create, info, qemu_img
from ansible_collections.platter.qemu.tests.lab.patterns import check_status, guest_digest, write_pattern
from ansible_collections.platter.qemu.tests.lab.zygote import RACE_SECONDS, Zygote

Count = t.Callable[[str, int], None]
Result = t.Dict[str, t.Any]
MIB = 1 << 20
RACERS = 50


def _together(zygote: Zygote, tasks: t.Sequence[Result]) -> list[Result]:
    """All begun at the same time; their results. A traceback fails."""
    children = [zygote.start("disk_image", dict(task, lock_timeout=RACE_SECONDS), stopped=True) for task in tasks]
    for child in children:
        child.go_on()
    for child in children:
        child.wait()
    return [child.result() for child in children]


def _only_refused_for(results: t.Iterable[Result], *reasons: str) -> None:
    for result in results:
        assert not result.get("failed") or result.get("reason") in reasons, result
        assert not result.get("failed") or result["changed"] is False, result


def _nothing_left(directory: Path, *names: str) -> None:
    assert sorted(path.name for path in directory.iterdir()) == sorted(names)


@pytest.mark.parametrize("number", range(amount(2, 20)))
def test_growing_amending_and_modes_lose_nothing(number: int, zygote: Zygote, place: Path, count: Count) -> None:
    dice, image = generator(f"grow {number}"), place / "disk.qcow2"
    create(image, "qcow2", "4M", "compat=0.10")
    write_pattern(image, "qcow2", number)
    seen = guest_digest(image, "qcow2", place)
    tasks = [_growing(image, dice.randrange(5, 200)) for _each in range(RACERS - 10)]
    tasks += [{"path": str(image), "format": "qcow2", "options": {"compat": "1.1", "lazy_refcounts": True}}] * 5
    tasks += [{"path": str(image), "format": "qcow2", "mode": "0640"}] * 5
    dice.shuffle(tasks)
    results = _together(zygote, tasks)
    _only_refused_for(results, "shrink_refused")
    asked = [int(task["size"]) for task in tasks if "size" in task]
    assert info(image, "qcow2")["virtual-size"] == max(asked)
    assert info(image, "qcow2")["format-specific"]["data"]["lazy-refcounts"] is True
    assert image.stat().st_mode & 0o7777 == 0o640
    _each_growth_went_up(results, max(asked))
    assert guest_digest(image, "qcow2", place) == seen
    assert check_status(image, "qcow2") == 0
    _nothing_left(place, "disk.qcow2")
    count("processes racing", len(results))


def _growing(image: Path, size: int) -> Result:
    return {"path": str(image), "format": "qcow2", "size": str(size * MIB)}


def _each_growth_went_up(results: t.Iterable[Result], largest: int) -> None:
    """The growths, one after the other, lead from the first size to the last without a gap or a fork."""
    steps = sorted(
        (result["diff"]["before"]["virtual_size"], result["diff"]["after"]["virtual_size"])
        for result in results
        if result["changed"] and result["diff"]["before"]["virtual_size"] != result["diff"]["after"]["virtual_size"]
    )
    assert steps and steps[0][0] == 4 * MIB and steps[-1][1] == largest, steps
    assert all(before[1] == after[0] for before, after in zip(steps, steps[1:])), steps


@pytest.mark.parametrize("number", range(amount(3, 30)))
def test_creating_removing_and_growing_have_a_serial_order(
    number: int, zygote: Zygote, place: Path, count: Count
) -> None:
    dice, image = generator(f"mixed {number}"), place / "disk.qcow2"
    tasks = [_mixed(image, dice.randrange(7), dice.randrange(4, 12)) for _each in range(RACERS)]
    results = _together(zygote, tasks)
    _only_refused_for(results, "shrink_refused", "size_missing")
    last = info(image, "qcow2")["virtual-size"] if image.exists() else None
    _has_serial_order(results, None, last)
    if image.exists():
        assert check_status(image, "qcow2") == 0
        _nothing_left(place, "disk.qcow2")
    else:
        _nothing_left(place)
    count("processes racing", len(results))


def _mixed(image: Path, kind: int, size: int) -> Result:
    if kind < 2:
        return {"path": str(image), "state": "absent"}
    if kind == 2:
        return {"path": str(image), "format": "qcow2", "mode": "0640"}
    if kind == 3:
        return {"path": str(image), "format": "qcow2", "options": {"lazy_refcounts": True}}
    return _growing(image, size)


def _has_serial_order(results: t.Iterable[Result], first: int | None, last: int | None) -> None:
    """Every change is a step from a size (None: absent) to another: all steps must make one trail from first to last.

    In a serial order each step begins where the one before ended, so that every size is left as often as it is come
    to, but for the first and the last, and all steps hang together. Two creations of the same image, or a growth of
    an image that was removed meanwhile, break that.
    """
    steps = [(_size(r, "before"), _size(r, "after")) for r in results if r["changed"]]
    balance = collections.Counter({first: 1})
    balance.subtract({last: 1})
    for before, after in steps:
        balance[before] -= 1
        balance[after] += 1
    assert not any(balance.values()), (steps, first, last)
    reached, todo = {first}, [first]
    while todo:
        here = todo.pop()
        fresh = {after for before, after in steps if before == here} - reached
        reached |= fresh
        todo += fresh
    assert all(before in reached for before, _after in steps), (steps, first, last)
    told = {_size(result, "before") for result in results if not result.get("failed")}
    assert told <= reached, f"a size that never was: {told - reached}"


def _size(result: Result, when: str) -> int | None:
    return t.cast("int | None", result["diff"][when].get("virtual_size"))


@pytest.mark.parametrize("number", range(amount(3, 30)))
def test_a_base_is_removed_before_its_overlays_come_or_not_at_all(
    number: int, zygote: Zygote, place: Path, count: Count
) -> None:
    base = create(place / "base.qcow2", "qcow2", "4M")
    backing = {"path": str(base), "format": "qcow2"}
    tasks: list[Result] = [
        {"path": str(place / f"vm{at}.qcow2"), "format": "qcow2", "backing": backing} for at in range(20)
    ]
    tasks.insert(generator(f"base {number}").randrange(21), {"path": str(base), "state": "absent"})
    results = _together(zygote, tasks)
    _only_refused_for(results, "has_overlays", "base_missing")
    overlays = sorted(path for path in place.iterdir() if path.name.startswith("vm"))
    made = [task["path"] for task, result in zip(tasks, results) if result["changed"] and "backing" in task]
    assert sorted(made) == [str(path) for path in overlays]
    if base.exists():
        assert len(overlays) == 20
    assert base.exists() or not overlays
    for overlay in overlays:
        qemu_img("check", "-q", "-f", "qcow2", overlay)
    count("processes racing", len(results))
