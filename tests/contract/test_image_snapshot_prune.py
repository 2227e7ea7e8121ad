"""Keeping some snapshots: who goes, who stays, and that the data of those that stay is what it was."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._tools.records import read_record, write_record
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, disk

DAY = 86400


@pytest.fixture(params=[("internal", "none"), ("external", "rename"), ("external", "symlink")], ids=str)
def one(tmp_path: Path, request: pytest.FixtureRequest) -> Disk:
    """Five snapshots, one a day, and one of another name in between."""
    made = disk(tmp_path, *request.param)
    for number, name in enumerate(("n0", "n1", "mine", "n2", "n3"), 2):
        made.take(name)
        made.write(number, number * 65536)
    for age, name in enumerate(reversed(list(made.then))):
        date(made, name, time.time() - age * DAY - 60)
    return made


def date(one: Disk, name: str, moment: float) -> None:
    """Make a snapshot older than it is."""
    path = one.points_now()[name]
    if path:
        record = read_record(str(path))
        record["snapshot"]["date"] = moment
        write_record(str(path), record)
        return
    data = bytearray(one.active.read_bytes())
    at = int.from_bytes(data[64:72], "big")
    while name.encode() not in data[at + 40 :][: size_of(data, at) - 40]:
        at += size_of(data, at)
    data[at + 16 : at + 20] = int(moment).to_bytes(4, "big")
    os.truncate(one.active, len(data))
    one.active.write_bytes(data)


def size_of(data: bytearray, at: int) -> int:
    """Bytes of an entry of the snapshot table (docs/interop/qcow2.txt)."""
    extra = int.from_bytes(data[at + 36 : at + 40], "big")
    names = int.from_bytes(data[at + 12 : at + 14], "big") + int.from_bytes(data[at + 14 : at + 16], "big")
    return -(-(40 + extra + names) // 8) * 8


@pytest.mark.parametrize(
    ("retention", "left"),
    [
        ({"keep_last": 2}, ["mine", "n2", "n3"]),
        ({"keep_last": 1}, ["mine", "n3"]),
        ({"keep_hourly": 0, "keep_daily": 1}, ["mine", "n3"]),
        ({"keep_daily": 3}, ["n1", "mine", "n2", "n3"]),
        ({"keep_last": 1, "keep_daily": 2}, ["mine", "n2", "n3"]),
        ({"max_age": "36h"}, ["mine", "n2", "n3"]),
        ({"keep_last": 3, "max_age": "1d"}, ["mine", "n3"]),
    ],
)
def test_what_no_rule_keeps_goes(one: Disk, retention: dict[str, Any], left: list[str]) -> None:
    seen = one.now()
    result = one.beats(state="pruned", match="n*", retention=retention)
    assert list(one.points()) == sorted_as_taken(left)
    assert one.now() == seen
    one.sound(*sorted_as_taken(left))
    assert all("which no rule of the retention keeps" in action for action in result["actions"] if "Lead" not in action)


def test_layers_are_limited_in_number(tmp_path: Path) -> None:
    one = disk(tmp_path, "external", "rename")
    for number, name in enumerate(("n0", "n1", "mine", "n2"), 2):
        one.take(name)
        one.write(number, number * 65536)
    one.beats(state="pruned", match="n*", retention={"max_depth": 2})
    one.sound("mine", "n2")


def sorted_as_taken(names: list[str]) -> list[str]:
    return [name for name in ("n0", "n1", "mine", "n2", "n3") if name in names]


def test_enough_is_enough(one: Disk) -> None:
    one.settled(state="pruned", match="n*", retention={"keep_last": 10})


def test_a_pattern_that_fits_nothing_is_told(one: Disk) -> None:
    one.settled(state="pruned", match="never*", retention={"keep_last": 1})
    for check in (True, False):
        told = call("image_snapshot", check=check, **one.task(state="pruned", match="N*", retention={"keep_last": 1}))
        assert f"No snapshot of {one.image} fits match=N*; there are: n0, n1, mine, n2, n3." in str(told["warnings"])


def test_a_pattern_that_fits_is_not_warned_of(tmp_path: Path) -> None:
    one = disk(tmp_path)
    task = one.task(state="pruned", match="n*", retention={"keep_last": 1})
    assert "warnings" not in call("image_snapshot", **task)
    one.take("n1")
    assert "warnings" not in call("image_snapshot", **task)
    one.take("other")
    assert "warnings" not in call("image_snapshot", **task)


def test_the_newest_is_kept_whatever_is_asked(tmp_path: Path) -> None:
    told = disk(tmp_path).refuses("bad_option", state="pruned", retention={"keep_last": 0})
    assert "the newest snapshot never goes" in told["msg"] and "state=absent" in told["msg"]


def test_a_clock_that_was_wrong_stops_it(one: Disk) -> None:
    date(one, "n3", time.time() + 2 * DAY)
    result = one.refuses("clock_skew", state="pruned", match="n*", retention={"keep_last": 1})
    assert result["evidence"]["snapshots"] == ["n3"]


def test_layers_that_others_need_are_not_pruned(tmp_path: Path) -> None:
    one = disk(tmp_path, "external")
    for number, name in enumerate(("n0", "n1"), 2):
        one.take(name)
        one.write(number)
    one.image = one.active
    other = create(tmp_path / "images" / "other.qcow2", "qcow2", "", "", "-b", one.points()["n0"], "-F", "qcow2")
    one.beats(state="pruned", retention={"keep_last": 1})  # it is streamed up, and its file stays
    qemu_img("check", "-q", other)
    one.sound("n1")


def test_what_was_left_goes_first(tmp_path: Path) -> None:
    one = disk(tmp_path, "external", "rename")
    one.take("n0")
    one.write(3)
    one.beats(name="n0", state="reverted")
    one.write(4)
    one.take("n1")
    seen = one.now()
    result = one.beats(state="pruned", retention={"keep_last": 1})
    assert len(result["actions"]) == 2
    assert one.now() == seen
    one.sound("n1")
