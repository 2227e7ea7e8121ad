"""Dirty bitmaps of images that nobody has open; qemu-img tells what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.tests.lab.guest import check
from ansible_collections.platter.qemu.tests.lab.oracle import create, info, qemu_img
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, disk

KINDS = ["internal", "external"]


@pytest.fixture(params=KINDS)
def one(tmp_path: Path, request: pytest.FixtureRequest) -> Disk:
    return disk(tmp_path, request.param)


def seen(one: Disk) -> dict[str, tuple[int, bool]]:
    """Granularity and whether it records, by name, as QEMU tells it."""
    found = info(one.active, "qcow2")["format-specific"]["data"].get("bitmaps", [])
    return {each["name"]: (each["granularity"], "auto" in each["flags"]) for each in found}


def bitmaps(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"bitmaps": list(entries)}


def test_bitmaps_are_added_and_removed(one: Disk) -> None:
    result = one.beats(**bitmaps({"name": "a"}, {"name": "b", "granularity": "4K", "enabled": False}))
    assert seen(one) == {"a": (65536, True), "b": (4096, False)}
    assert [each["name"] for each in result["snapshot"]["bitmaps"]] == ["a", "b"]
    one.beats(**bitmaps({"name": "a", "state": "absent"}, {"name": "c"}, {"name": "never", "state": "absent"}))
    assert sorted(seen(one)) == ["b", "c"]
    assert not check(one.active, "qcow2").keys() & {"leaks", "corruptions"}


@pytest.mark.parametrize("name", ["--clear", "-f", "--", "--merge=x", "a b", "'"])
def test_a_bitmap_is_called_what_it_is_called(tmp_path: Path, name: str) -> None:
    one = disk(tmp_path)
    one.beats(**bitmaps({"name": name}))
    one.beats(**bitmaps({"name": name, "enabled": False}, {"name": "other", "sources": [name]}))
    assert seen(one) == {name: (65536, False), "other": (65536, True)}
    one.beats(**bitmaps({"name": name, "state": "absent"}))
    assert list(seen(one)) == ["other"]


def test_bitmaps_are_switched(one: Disk) -> None:
    one.beats(**bitmaps({"name": "a"}))
    one.beats(**bitmaps({"name": "a", "enabled": False}))
    assert seen(one) == {"a": (65536, False)}
    one.settled(**bitmaps({"name": "a"}))
    one.beats(**bitmaps({"name": "a", "enabled": True}))
    assert seen(one) == {"a": (65536, True)}


def test_a_merge_is_not_done_twice(one: Disk) -> None:
    one.beats(**bitmaps({"name": "monday"}))
    one.write(3)
    one.beats(**bitmaps({"name": "monday", "enabled": False}, {"name": "tuesday"}))
    result = one.beats(**bitmaps({"name": "week", "sources": ["monday", "tuesday"]}))
    assert "merged from monday, tuesday" in result["actions"][0]
    one.write(4, 65536)
    one.settled(**bitmaps({"name": "week", "sources": ["monday", "tuesday"]}))


def test_merged_ones_may_go_in_the_same_task(one: Disk) -> None:
    one.beats(**bitmaps({"name": "monday"}, {"name": "tuesday"}))
    gone = [{"name": name, "state": "absent"} for name in ("monday", "tuesday")]
    task = {"name": "week", "sources": ["monday", "tuesday"]}
    one.beats(**bitmaps(task, *gone))
    assert sorted(seen(one)) == ["week"]


@pytest.mark.parametrize("size", [512, 4096, 65536, 2 << 20])
def test_qemu_chooses_the_granularity_that_is_predicted(tmp_path: Path, size: int) -> None:
    one = disk(tmp_path, options=f"cluster_size={size}")
    result = one.beats(**bitmaps({"name": "a"}))
    assert [each["granularity"] for each in result["snapshot"]["bitmaps"]] == [seen(one)["a"][0]]


def test_a_snapshot_and_bitmaps_in_one_task(tmp_path: Path) -> None:
    one = disk(tmp_path)
    one.beats(name="s1", **bitmaps({"name": "a"}))
    assert sorted(seen(one)) == ["a"]
    one.settled(name="s1")


def test_bitmaps_that_would_be_wrong_stop_the_way_back(tmp_path: Path) -> None:
    one = disk(tmp_path)
    one.take("s1")
    one.beats(**bitmaps({"name": "a"}))
    one.write(3)
    result = one.refuses("would_lose_bitmaps", name="s1", state="reverted")
    assert result["evidence"] == {"bitmaps": ["a"]}
    one.beats(**bitmaps({"name": "a", "state": "absent"}))
    one.beats(name="s1", state="reverted")


def test_another_granularity_is_refused(one: Disk) -> None:
    one.beats(**bitmaps({"name": "a"}))
    one.refuses("exists_different", **bitmaps({"name": "a", "granularity": "4K"}))
    one.settled(**bitmaps({"name": "a", "granularity": "64K"}))


def test_sources_must_be_there(one: Disk) -> None:
    one.refuses("bitmap_missing", **bitmaps({"name": "week", "sources": ["monday"]}))


def test_old_images_keep_none(tmp_path: Path) -> None:
    disk(tmp_path, options="compat=0.10").refuses("bitmaps_unsupported", **bitmaps({"name": "a"}))


def test_one_that_was_not_written_back_is_told(one: Disk) -> None:
    one.beats(**bitmaps({"name": "a"}))
    damage(one.active)
    one.refuses("bitmap_inconsistent", **bitmaps({"name": "a", "enabled": False}))
    one.refuses("bitmap_inconsistent", **bitmaps({"name": "week", "sources": ["a"]}))
    one.beats(**bitmaps({"name": "a", "state": "absent"}))
    assert seen(one) == {}


def damage(path: Path) -> None:
    """Set the flag in-use of the only bitmap, as a QEMU that was killed leaves it (docs/interop/qcow2.txt)."""
    data = bytearray(path.read_bytes())
    at = int.from_bytes(data[100:104], "big")
    while int.from_bytes(data[at : at + 4], "big") != 0x23852875:
        at += 8 + -(-int.from_bytes(data[at + 4 : at + 8], "big") // 8) * 8
    directory = int.from_bytes(data[at + 24 : at + 32], "big")
    data[directory + 15] |= 1
    path.write_bytes(data)
    info_flags = info(path, "qcow2")["format-specific"]["data"]["bitmaps"][0]["flags"]
    assert "in-use" in info_flags


@pytest.mark.parametrize(
    "entries",
    [
        [{"name": ""}],
        [{"name": "x" * 1024}],
        [{"name": "a\nb"}],
    ],
)
def test_bad_names_are_refused(one: Disk, entries: list[dict[str, Any]]) -> None:
    one.refuses("bad_name", **bitmaps(*entries))


@pytest.mark.parametrize("granularity", ["3K", "256", "4G", "much"])
def test_bad_granularities_are_refused(one: Disk, granularity: str) -> None:
    one.refuses("bad_size", **bitmaps({"name": "a", "granularity": granularity}))


def test_a_bitmap_is_listed_once(one: Disk) -> None:
    one.refuses("duplicate_item", **bitmaps({"name": "a"}, {"name": "a", "state": "absent"}))


def test_the_longest_name_is_taken(one: Disk) -> None:
    one.beats(**bitmaps({"name": "x" * 1023}))
    assert list(seen(one)) == ["x" * 1023]


def test_an_overlay_begins_without(tmp_path: Path) -> None:
    one = disk(tmp_path, "external", "rename")
    one.beats(**bitmaps({"name": "a"}))
    one.take("s1")
    assert seen(one) == {}
    base = one.points()["s1"]
    assert base and "bitmaps" in info(base, "qcow2")["format-specific"]["data"]


def test_bitmaps_of_a_raw_image_are_refused(tmp_path: Path) -> None:
    image = create(tmp_path / "web1.raw", "raw", "1M")
    Disk(image, "external", format="raw").refuses("bad_option", **bitmaps({"name": "a"}))


def test_bitmaps_that_qemu_made_are_bitmaps(one: Disk) -> None:
    qemu_img("bitmap", "--add", "-g", "128K", one.active, "theirs")
    one.settled(**bitmaps({"name": "theirs", "granularity": "128K"}))
