"""External snapshots removed: what the guest sees stays the same, whichever way the data goes."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._snapshot.layer_records import begin_merge
from ansible_collections.platter.qemu.tests.lab.guest import MIB
from ansible_collections.platter.qemu.tests.lab.oracle import create, info, qemu_img
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, backing_name, disk, held

SWITCHES = ["none", "symlink", "rename"]
WAYS = ["absent", "committed", "streamed"]


def three(tmp_path: Path, switch: str, format: str = "qcow2") -> Disk:
    """A disk with snapshots s1, s2 and s3, written to before and after each."""
    one = disk(tmp_path, "external", switch, format=format)
    for number, name in enumerate(("s1", "s2", "s3"), 3):
        one.take(name)
        one.write(number, (number - 3) * MIB // 8)
    # with switch=none, the file that was named first may go; the task is then told of the disk of now
    return Disk(one.active if switch == "none" else one.image, "external", switch, "qcow2", one.active, one.then)


@pytest.mark.parametrize(("switch", "way", "name"), [*itertools.product(SWITCHES, WAYS, ["s1", "s2", "s3"])])
def test_one_of_three_goes_and_the_others_stay(tmp_path: Path, switch: str, way: str, name: str) -> None:
    one = three(tmp_path, switch)
    seen = one.now()
    if switch == "none" and name == "s3" and way != "streamed":
        result = one.refuses("image_would_go", name=name, state=way)
        one.image = Path(result["evidence"]["left"])
    result = one.beats(name=name, state=way)
    assert ("commit" if way != "streamed" else "stream") in result["actions"][0]
    assert one.now() == seen
    one.sound(*(each for each in ("s1", "s2", "s3") if each != name))
    layers = result["snapshot"]["layers"]
    assert len(layers) == 3
    links = [one.image] if switch == "symlink" else []
    assert sorted(map(str, [*links, *layers])) == sorted(map(str, one.image.parent.iterdir()))
    if switch != "none":
        assert held(one.image) == seen


@pytest.mark.parametrize(("switch", "way"), [*itertools.product(SWITCHES, WAYS)])
def test_all_go_and_one_file_is_left(tmp_path: Path, switch: str, way: str) -> None:
    one = three(tmp_path, switch)
    seen = one.now()
    for name in ("s2", "s1", "s3"):
        if switch == "none" and name == "s3" and way != "streamed":
            one.image = Path(one.refuses("image_would_go", name=name, state=way)["evidence"]["left"])
        one.beats(name=name, state=way)
    one.sound()
    assert one.now() == seen
    assert backing_name(one.active) is None
    assert sum(1 for path in one.image.parent.iterdir() if not path.is_symlink()) == 1


def test_a_raw_file_takes_what_is_committed(tmp_path: Path) -> None:
    one = disk(tmp_path, "external", format="raw")
    one.take("s1")
    one.write(3)
    seen = one.now()
    one.beats(name="s1", state="committed")
    assert one.active == one.image
    assert held(one.image, "raw") == seen


@pytest.mark.parametrize("way", ["absent", "committed"])
def test_what_grew_since_grows_the_file_below(tmp_path: Path, way: str) -> None:
    one = disk(tmp_path, "external", "rename")
    one.take("s1")
    qemu_img("resize", "-q", "-f", "qcow2", one.active, "4M")
    one.write(3, 3 * MIB)
    seen = one.now()
    result = one.beats(name="s1", state=way)
    assert "grows to 4 MiB" in result["actions"][0]
    assert one.now() == seen
    one.sound()


def test_what_shrank_since_is_streamed(tmp_path: Path) -> None:
    one = disk(tmp_path, "external", "rename", size="4M")
    one.take("s1")
    qemu_img("resize", "-q", "--shrink", "-f", "qcow2", one.active, "1M")
    one.write(3)
    seen = one.now()
    one.refuses("would_grow", name="s1", state="committed")
    one.beats(name="s1", state="absent")
    assert one.now() == seen
    assert info(one.active, "qcow2")["virtual-size"] == MIB


# --- with others built on a layer


@pytest.mark.parametrize("way", ["absent", "streamed"])
def test_nothing_is_committed_into_a_file_that_others_are_built_on(tmp_path: Path, way: str) -> None:
    one = three(tmp_path, "none")
    point = one.points_now()["s2"]
    other = create(one.image.parent / "other.qcow2", "qcow2", "", "", "-b", point, "-F", "qcow2")
    theirs, seen = held(other), one.now()
    one.refuses("has_overlays", name="s2", state="committed")
    result = one.beats(name="s2", state=way)
    assert "stays: other images are built on it" in result["actions"][0]
    assert (held(other), one.now()) == (theirs, seen)
    one.sound("s1", "s3")


def test_a_layer_that_others_are_built_on_is_not_committed_away(tmp_path: Path) -> None:
    one = three(tmp_path, "none")
    other = create(one.image.parent / "other.qcow2", "qcow2", "", "", "-b", one.points_now()["s3"], "-F", "qcow2")
    theirs = held(other)
    one.refuses("has_overlays", name="s2", state="committed")
    assert held(other) == theirs


def test_what_was_left_is_removed_with_its_file(tmp_path: Path) -> None:
    one = disk(tmp_path, "external", "rename")
    one.take("s1")
    one.write(3)
    one.then["s1.undone"] = one.now()
    one.beats(name="s1", state="reverted")
    left = one.points()["s1.undone"]
    result = one.beats(name="s1.undone", state="absent")
    assert result["actions"] == [f"Remove snapshot s1.undone of {one.image} ({left})."]
    assert left and not left.exists()
    one.sound("s1")


def test_a_point_with_two_ways_on_from_it(tmp_path: Path) -> None:
    """The lowest one holds the family together; another one does not."""
    one = disk(tmp_path, "external", "rename")
    one.take("s0")
    one.write(2)
    one.take("s1")
    one.write(3)
    one.then["s1.undone"] = one.now()
    one.beats(name="s1", state="reverted")
    one.write(4)
    seen = one.now()
    one.refuses("has_overlays", name="s1", state="committed")
    one.beats(name="s1", state="absent")
    assert one.now() == seen
    one.sound("s0", "s1.undone")
    assert one.refuses("has_overlays", name="s0", state="absent")["evidence"]["snapshots"] == ["s1.undone"]
    one.beats(name="s1.undone", state="absent")
    one.beats(name="s0", state="absent")
    assert one.now() == seen


def test_a_point_stays_one_when_the_last_layer_on_it_goes(tmp_path: Path) -> None:
    one = disk(tmp_path, "external", "rename")
    for number, name in enumerate(("s0", "s1"), 2):
        one.take(name)
        one.write(number)
    one.then["late"] = one.now()
    one.beats(name="s0", state="reverted", save_as="late")
    one.sound("s0", "s1", "late")
    one.beats(name="late", state="absent")
    one.sound("s0", "s1")
    one.beats(name="s1", state="reverted")
    one.sound("s0", "s1")
    one.write(5)
    one.then["s0.undone"] = one.now()
    one.beats(name="s0", state="reverted")
    one.beats(name="s1", state="committed")  # what was written on it goes down into its file, and has its own name
    one.sound("s0", "s0.undone")


# --- what a layer has beside its data


def test_bitmaps_are_not_lost_in_a_merge(tmp_path: Path) -> None:
    one = disk(tmp_path, "external", "rename")
    one.beats(bitmaps=[{"name": "low"}])
    one.take("s1")
    assert one.result["snapshot"]["bitmaps"] == []
    one.refuses("would_lose_bitmaps", name="s1", state="streamed")
    one.beats(bitmaps=[{"name": "high"}])
    result = one.refuses("would_lose_bitmaps", name="s1", state="committed")
    assert result["evidence"]["names"] == ["high"]
    one.beats(bitmaps=[{"name": "high", "state": "absent"}])
    result = one.beats(name="s1", state="committed")
    assert [each["name"] for each in result["snapshot"]["bitmaps"]] == ["low"]


def test_internal_snapshots_are_not_lost_in_a_merge(tmp_path: Path) -> None:
    one = disk(tmp_path, "external", "rename")
    qemu_img("snapshot", "-c", "inner", one.active)
    one.take("s1")
    one.refuses("would_lose_snapshots", name="s1", state="streamed")


def test_internal_snapshots_of_a_layer_show_what_they_did_after_a_merge(tmp_path: Path) -> None:
    """Only what the layer shows now is copied up; what they take from below would be gone."""
    one = disk(tmp_path, "external", "rename")
    one.take("s1")
    qemu_img("snapshot", "-c", "inner", one.active)
    result = one.refuses("would_lose_snapshots", name="s1", state="streamed")
    assert result["evidence"] == {"path": str(one.active), "names": ["inner"]}


# --- a merge that a killed run has begun


@pytest.mark.parametrize("way", WAYS)
def test_a_merge_that_was_begun_has_to_be_ended(tmp_path: Path, way: str) -> None:
    one = disk(tmp_path, "external", "rename")
    one.take("s1")
    one.write(3)
    seen = one.now()
    begin_merge(str(one.points()["s1"]), str(one.active))
    for state in ("present", "reverted"):
        one.refuses("merge_unfinished", name="s1", state=state)
    one.beats(name="s1", state=way)
    assert one.now() == seen
    one.sound()


# --- how bases are recorded afterwards


@pytest.mark.parametrize("way", WAYS)
def test_relative_names_stay_relative(tmp_path: Path, way: str) -> None:
    one = disk(tmp_path, "external", "rename", relative=True)
    for number, name in enumerate(("s1", "s2", "s3"), 3):
        one.take(name)
        one.write(number)
    one.beats(name="s2", state=way)
    seen = one.now()
    moved = tmp_path / "moved"
    one.image.parent.rename(moved)
    assert held(moved / one.active.name) == seen


def test_owner_and_mode_stay(tmp_path: Path) -> None:
    one = disk(tmp_path, "external", "rename")
    os.chmod(one.active, 0o640)
    os.chown(one.active, 1234, 2345)
    one.take("s1")
    one.write(3)
    one.beats(name="s1", state="committed")
    seen = one.image.stat()
    assert (seen.st_mode & 0o7777, seen.st_uid, seen.st_gid) == (0o640, 1234, 2345)


@pytest.mark.parametrize("switch", ["rename", "symlink"])
def test_the_name_of_the_disk_gets_no_other_format_unasked(tmp_path: Path, switch: str) -> None:
    """The overlay is qcow2, and the base is not."""
    one = disk(tmp_path, "external", switch, format="raw")
    one.take("s1")
    told = one.refuses("format_mismatch", name="s1", state="committed", format="qcow2")
    assert told["evidence"] == {"asked": "qcow2", "found": ["raw"]}
    one.beats(name="s1", state="committed")
    assert one.points() == {}


def test_a_grown_disk_is_not_committed_into_what_qemu_does_not_make_larger(tmp_path: Path) -> None:
    """It would be found out in the middle of the merge, which nothing could end then."""
    one = disk(tmp_path, "external", size="1M", format="vdi")
    one.take("s1")
    one.write(3)
    qemu_img("resize", "-q", "-f", "qcow2", one.active, "2M")
    seen = one.now()
    one.image, one.format = one.active, "qcow2"
    one.refuses("cannot_commit", name="s1", state="committed")
    assert one.beats(name="s1", state="absent")["actions"][0].startswith("Merge snapshot s1 of %s: stream" % one.image)
    assert one.now() == seen
