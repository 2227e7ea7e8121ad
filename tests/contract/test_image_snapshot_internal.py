"""Internal snapshots: taken, gone back to, deleted; what each holds is read by qemu-img."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab.guest import KIB, MIB, check, qemu_io
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create, info, qemu_img
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, disk, names_in


@pytest.fixture(params=["", "compat=0.10", "cluster_size=512", "lazy_refcounts=on", "extended_l2=on"])
def one(tmp_path: Path, request: pytest.FixtureRequest) -> Disk:
    return disk(tmp_path, options=request.param)


def test_a_snapshot_is_taken_and_keeps_what_was_there(one: Disk) -> None:
    result = one.take("s1")
    assert result["actions"] == [f"Take snapshot s1 of {one.image}."]
    assert result["snapshot"]["same_as"] == ["s1"]
    one.write(3)
    one.take("s2")
    one.sound("s1", "s2")
    assert one.now() == one.then["s2"] != one.then["s1"]


def test_a_snapshot_is_never_taken_anew(one: Disk) -> None:
    one.take("s1")
    one.write(3)
    one.settled(name="s1")
    one.sound("s1")


def test_a_snapshot_is_deleted(one: Disk) -> None:
    one.take("s1")
    one.write(3)
    one.take("s2")
    seen = one.now()
    one.beats(name="s1", state="absent")
    one.sound("s2")
    one.beats(name="s2", state="absent")
    one.sound()
    assert one.now() == seen
    one.settled(name="s2", state="absent")


def test_there_is_a_way_back_and_a_way_back_from_that(one: Disk) -> None:
    one.take("s1")
    one.write(3)
    later = one.now()
    one.then["s1.undone"] = later
    result = one.beats(name="s1", state="reverted")
    assert len(result["actions"]) == 2
    assert one.now() == one.then["s1"]
    one.sound("s1", "s1.undone")
    one.beats(name="s1.undone", state="reverted")
    assert one.now() == later
    one.sound("s1", "s1.undone")  # what it held before is s1, and is not kept again


def test_nothing_written_is_nothing_to_go_back_from(one: Disk) -> None:
    one.take("s1")
    one.settled(name="s1", state="reverted")
    qemu_io(one.active, "qcow2", "read -q 0 1M")
    one.settled(name="s1", state="reverted")


def test_what_is_thrown_away_is_thrown_away(one: Disk) -> None:
    one.take("s1")
    one.write(3)
    one.beats(name="s1", state="reverted", save=False)
    assert one.now() == one.then["s1"]
    one.sound("s1")


def test_what_is_kept_gets_a_name_of_its_own(tmp_path: Path) -> None:
    one = disk(tmp_path)
    one.take("s1")
    for number, name in enumerate(("s1.undone", "s1.undone-2", "s1.undone-3"), 3):
        one.write(number)
        one.then[name] = one.now()
        one.beats(name="s1", state="reverted")
    one.write(9)
    one.then["mine"] = one.now()
    one.beats(name="s1", state="reverted", save_as="mine")
    one.sound("s1", "s1.undone", "s1.undone-2", "s1.undone-3", "mine")
    one.write(10)
    one.refuses("snapshot_exists", name="s1", state="reverted", save_as="mine")


@pytest.mark.parametrize("change", ["4M", "512K"])
def test_the_size_of_then_comes_back(tmp_path: Path, change: str) -> None:
    one = disk(tmp_path)
    one.take("s1")
    qemu_img("resize", "-q", *(["--shrink"] if change == "512K" else []), "-f", "qcow2", one.active, change)
    one.write(3, 256 * KIB)
    one.take("s2")
    sizes = [each["virtual_size"] for each in one.result["snapshot"]["snapshots"]]
    assert sizes == [MIB, info(one.active, "qcow2")["virtual-size"]]
    one.beats(name="s1", state="reverted")
    assert info(one.active, "qcow2")["virtual-size"] == MIB
    assert one.now() == one.then["s1"]
    one.beats(name="s2", state="reverted")
    assert one.now() == one.then["s2"]


def test_what_does_not_exist_is_not_gone_back_to(tmp_path: Path) -> None:
    one = disk(tmp_path)
    one.take("s1")
    result = one.refuses("snapshot_missing", name="s2", state="reverted")
    assert result["evidence"] == {"snapshots": ["s1"]}


def test_snapshots_of_others_are_snapshots_too(tmp_path: Path) -> None:
    one = disk(tmp_path)
    qemu_img("snapshot", "-c", "theirs", one.active)
    one.settled(name="theirs")
    one.write(3)
    one.beats(name="theirs", state="absent")
    assert names_in(one.active) == []


def test_the_snapshots_of_an_overlay_are_its_own(tmp_path: Path) -> None:
    base = create(tmp_path / "base.qcow2", "qcow2", "1M")
    qemu_io(base, "qcow2", "write -q -P 7 0 1M")
    one = disk(tmp_path)
    one.active.unlink()
    create(one.active, "qcow2", "", "", "-b", base, "-F", "qcow2")
    one.take("s1")
    one.write(3)
    one.beats(name="s1", state="reverted", save=False)
    assert one.now() == one.then["s1"]
    one.sound("s1")
    assert not check(base, "qcow2").keys() & {"leaks", "corruptions"}


def test_an_image_that_others_are_built_on_is_left_alone(tmp_path: Path) -> None:
    one = disk(tmp_path)
    overlay = create(one.image.parent / "overlay.qcow2", "qcow2", "", "", "-b", one.image, "-F", "qcow2")
    result = one.refuses("has_overlays", name="s1")
    assert result["evidence"] == {"overlays": [str(overlay)]}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    overlay.rename(elsewhere / "overlay.qcow2")
    one.refuses("has_overlays", name="s1", overlay_directories=[str(elsewhere)])


def test_a_data_file_has_no_internal_snapshots(tmp_path: Path) -> None:
    place = tmp_path / "images"
    place.mkdir()
    image = create(place / "web1.qcow2", "qcow2", "1M", f"data_file={place}/web1.data,data_file_raw=on")
    result = Disk(image).refuses("data_file_unsupported", name="s1")
    assert "external" in result["msg"]


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("image_missing", {"image": "/nowhere/web1.qcow2"}),
        ("not_a_file", {"image": "/dev"}),
        ("format_mismatch", {"image": "raw"}),
    ],
)
def test_what_is_no_such_image_is_refused(tmp_path: Path, reason: str, change: dict[str, str]) -> None:
    (tmp_path / "raw").write_bytes(bytes(1 << 20))
    image = change["image"] if change["image"].startswith("/") else str(tmp_path / change["image"])
    result = call("image_snapshot", image=image, format="qcow2", name="s1")
    assert (result["failed"], result.get("reason")) == (True, reason), result
