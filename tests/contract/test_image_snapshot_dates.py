"""When each snapshot was taken: the same words in every result, by QEMU's account and by our own record."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._tools.records import read_record, write_record
from ansible_collections.platter.qemu.tests.lab.info import fact
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import info
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, disk


def dates(one: Disk) -> dict[str, tuple[str, int]]:
    """By snapshot, from a task that does nothing."""
    one.points_now()
    return {each["name"]: (each["date"], each["date_sec"]) for each in one.result["snapshot"]["snapshots"]}


def words(moment: float) -> tuple[str, int]:
    text = datetime.fromtimestamp(int(moment), timezone.utc).isoformat().replace("+00:00", "Z")
    return text, int(moment)


@pytest.mark.parametrize(("kind", "switch"), [("internal", "none"), ("external", "rename")])
def test_a_new_snapshot_is_dated_in_its_own_result(tmp_path: Path, kind: str, switch: str) -> None:
    one = disk(tmp_path, kind, switch)
    predicted = call("image_snapshot", check=True, **one.task(name="s1"))
    assert [(each["date"], each["date_sec"]) for each in predicted["snapshot"]["snapshots"]] == [(None, None)]
    before = int(time.time())
    (told,) = one.take("s1")["snapshot"]["snapshots"]
    assert before <= told["date_sec"] <= time.time()
    assert (told["date"], told["date_sec"]) == words(told["date_sec"]) == dates(one)["s1"]
    assert one.result["diff"]["after"]["snapshots"] == predicted["diff"]["after"]["snapshots"], "a diff is predictable"


def test_internal_snapshots_are_dated_as_qemu_dates_them(tmp_path: Path) -> None:
    one = disk(tmp_path)
    one.take("s1")
    one.write(3)
    one.beats(name="s1", state="reverted")
    found = {each["name"]: words(each["date-sec"]) for each in info(one.active, "qcow2")["snapshots"]}
    assert list(found) == ["s1", "s1.undone"]
    assert dates(one) == found
    assert {each["name"]: (each["date"], each["date_sec"]) for each in fact(one.active)["snapshots"]} == found


def test_external_snapshots_keep_their_dates_in_other_files(tmp_path: Path) -> None:
    """After a merge, s2 is in the file that was called after s1."""
    one = disk(tmp_path, "external", "rename")
    for byte, name in enumerate(("s1", "s2"), 3):
        one.take(name)
        one.write(byte)
    for age, name in enumerate(("s2", "s1"), 1):
        record = read_record(str(one.points()[name]))
        record["snapshot"]["date"] = 1_700_000_000.75 - 86400 * age
        write_record(str(one.points()[name]), record)
    found = dates(one)
    assert found == {"s1": words(1_700_000_000 - 2 * 86400), "s2": words(1_700_000_000 - 86400)}
    one.beats(name="s1", state="committed")
    assert dates(one) == {"s2": found["s2"]}
    file = one.points()["s2"]
    assert file is not None and file.name == "web1.s1.qcow2"
    assert fact(file)["external_snapshot"] == {"name": "s2", "date": found["s2"][0], "date_sec": found["s2"][1]}
    assert "external_snapshot" not in fact(one.active)


@pytest.mark.parametrize("wrong", ["yesterday", None, 1e300])
def test_a_record_without_a_date_is_a_snapshot_without_one(tmp_path: Path, wrong: object) -> None:
    one = disk(tmp_path, "external", "rename")
    one.take("s1")
    path = str(one.points()["s1"])
    record = read_record(path)
    record["snapshot"]["date"] = wrong
    write_record(path, record)
    assert dates(one) == {"s1": (None, None)}
    assert fact(path)["external_snapshot"] == {"name": "s1", "date": None, "date_sec": None}


def test_one_with_a_date_to_come_does_not_stand_in_the_way(tmp_path: Path) -> None:
    """A clock was wrong, and has been set back."""
    one = disk(tmp_path, "external", "rename")
    one.take("s1")
    path = str(one.points()["s1"])
    record = read_record(path)
    record["snapshot"]["date"] += 7200
    write_record(path, record)
    result = call("image_snapshot", **one.task(name="s2"))
    assert result["changed"] and not result.get("failed"), result
    assert list(one.points_now()) == ["s2", "s1"]
