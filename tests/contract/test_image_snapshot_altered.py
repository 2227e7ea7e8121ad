"""Files of external snapshots that others have written to: they are not what the disk was then."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import converge
from ansible_collections.platter.qemu.tests.lab.guest import KIB, qemu_io, shows
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, disk

THEIRS = (0x99, 128 * KIB, 64 * KIB)
WAYS: list[dict[str, Any]] = [
    {"name": "s1", "state": "reverted"},
    {"name": "s1", "state": "committed"},
    {"name": "s1", "state": "absent"},
    {"name": "s1", "state": "streamed"},
    {"state": "pruned", "retention": {"keep_last": 1}},
]


def two(tmp_path: Path) -> Disk:
    """A disk with snapshots s1 and s2, written to after each."""
    one = disk(tmp_path, "external", "rename")
    for number, name in enumerate(("s1", "s2"), 3):
        one.take(name)
        one.write(number)
    return one


def theirs(path: Path | None) -> Path:
    """The file, which somebody else has written to."""
    assert path
    qemu_io(path, "qcow2", f"write -q -P {THEIRS[0]} {THEIRS[1]} {THEIRS[2]}")
    return path


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way["state"])
def test_a_snapshot_that_others_have_written_to_is_refused_until_that_is_accepted(
    tmp_path: Path, way: dict[str, Any]
) -> None:
    one = two(tmp_path)
    point = theirs(one.points()["s1"])
    told = one.refuses("snapshot_altered", **way)
    assert told["evidence"]["path"] == str(point)
    assert told["evidence"]["now"] == {"size": point.stat().st_size, "mtime_ns": point.stat().st_mtime_ns}
    assert told["evidence"]["then"]["mtime_ns"] < told["evidence"]["now"]["mtime_ns"]
    assert [each.get("altered") for each in told["snapshot"]["snapshots"]] == [True, None]
    one.beats(**way, allow_altered=True)
    shows(one.active, "qcow2", (THEIRS,))  # and so it did before
    one.settled(**way)
    assert "altered" not in str(one.result["snapshot"])


def test_what_lies_on_it_is_refused_too(tmp_path: Path) -> None:
    one = two(tmp_path)
    theirs(one.points()["s1"])
    one.refuses("snapshot_altered", name="s2", state="reverted")
    one.beats(name="s2", state="reverted", allow_altered=True)
    one.settled(name="s2", state="reverted")


def test_what_is_merged_down_is_looked_at_too(tmp_path: Path) -> None:
    """The file of s1 would take what s2 was, and its name."""
    one = two(tmp_path)
    theirs(one.points()["s2"])
    told = one.refuses("snapshot_altered", name="s1", state="committed")
    assert told["evidence"]["snapshot"] == "s2"


def test_a_layer_that_was_left_is_looked_at_too(tmp_path: Path) -> None:
    one = two(tmp_path)
    one.beats(name="s1", state="reverted")
    theirs(one.points()["s1.undone"])
    one.refuses("snapshot_altered", name="s1.undone", state="absent")
    one.refuses("snapshot_altered", name="s1.undone", state="reverted")
    one.beats(name="s1.undone", state="absent", allow_altered=True)


def test_one_that_is_to_be_there_is_warned_of_and_can_be_accepted(tmp_path: Path) -> None:
    one = two(tmp_path)
    point = theirs(one.points()["s1"])
    one.settled(name="s1")
    for check in (True, False):
        warned = str(call("image_snapshot", check=check, **one.task(name="s1"))["warnings"])
        assert f"Somebody has written to {point} since it became snapshot s1. See allow_altered." in warned
    result = one.beats(name="s1", allow_altered=True)
    assert result["actions"] == [
        f"Take what {point} holds now as snapshot s1 of {one.image}, though others have written to it."
    ]
    assert "warnings" not in call("image_snapshot", **one.task(name="s1"))
    one.write(7)
    one.beats(name="s1", state="reverted")


def test_one_that_was_restored_with_its_times_is_as_it_was(tmp_path: Path) -> None:
    one = two(tmp_path)
    point = one.points()["s1"]
    assert point
    kept, times = point.read_bytes(), point.stat()
    theirs(point)
    with open(point, "r+b") as stream:
        stream.truncate(0)
        stream.write(kept)
    os.utime(point, ns=(times.st_atime_ns, times.st_mtime_ns))
    one.beats(name="s1", state="reverted")
    assert one.now() == one.then["s1"]


@pytest.mark.parametrize("merges", [("s1", "s2"), ("s2", "s1"), ("s3", "s1"), ("s2", "s3")])
@pytest.mark.parametrize("way", ["committed", "streamed"])
def test_what_we_write_ourselves_is_no_matter(tmp_path: Path, way: str, merges: tuple[str, str]) -> None:
    one = two(tmp_path)
    one.take("s3")
    one.write(5)
    for name in merges:
        assert "altered" not in str(one.beats(name=name, state=way)["snapshot"])
    left = next(name for name in ("s1", "s2", "s3") if name not in merges)
    one.beats(name=left, state="reverted")
    assert one.now() == one.then[left]
    converge(**one.task(name=left + ".undone", state="reverted"))
