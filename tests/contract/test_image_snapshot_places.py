"""Where the files of a disk lie: in several directories, on devices, where there are no attributes; and which is the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._snapshot import layer_records
from ansible_collections.platter.qemu.tests.lab.guest import MIB
from ansible_collections.platter.qemu.tests.lab.loops import HAVE_LOOPS, attached, mounted
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, backing_name, disk, held


def scattered(tmp_path: Path) -> Disk:
    """A disk with s1 and s2, each layer in a directory of its own, the VM in the last; tasks name the first file."""
    one = disk(tmp_path, "external")
    for number, name in enumerate(("s1", "s2"), 3):
        (tmp_path / name).mkdir()
        seen = one.now()
        one.beats(name=name, overlay=str(tmp_path / name / "layer.qcow2"))
        one.then[name] = seen
        one.write(number, number * MIB // 8)
    return one


@pytest.mark.parametrize("way", ["absent", "committed", "streamed"])
@pytest.mark.parametrize("name", ["s1", "s2"])
def test_the_disk_is_found_from_the_lowest_file_whatever_has_gone(tmp_path: Path, name: str, way: str) -> None:
    one = scattered(tmp_path)
    seen = one.now()
    if way == "streamed" and name == "s1":
        one.refuses("image_would_go", name=name, state=way)
        one.image = tmp_path / "s1" / "layer.qcow2"
    one.beats(name=name, state=way)
    one.sound("s2" if name == "s1" else "s1")
    (tmp_path / "s3").mkdir()
    one.beats(name="s3", overlay=str(tmp_path / "s3" / "layer.qcow2"))
    assert one.now() == seen
    assert held(one.active) == seen


def test_the_disk_is_found_from_the_lowest_file_after_it_was_sent_back(tmp_path: Path) -> None:
    one = scattered(tmp_path)
    one.then["s1.undone"] = one.now()
    one.beats(name="s1", state="reverted")
    one.sound("s1", "s2", "s1.undone")
    one.beats(name="s1.undone", state="absent")
    one.beats(name="s2", state="absent")
    one.sound("s1")


def test_a_snapshot_whose_overlay_is_not_there_is_no_disk(tmp_path: Path) -> None:
    one = scattered(tmp_path)
    (tmp_path / "s1" / "layer.qcow2").rename(tmp_path / "away")
    for options in ({"name": "s3"}, {"name": "s1", "state": "reverted"}, {"name": "s1", "state": "absent"}):
        one.refuses("active_unknown", **options)


def test_a_snapshot_that_was_only_announced_is_the_disk_still(tmp_path: Path) -> None:
    """Killed before there was an overlay on it."""
    one = disk(tmp_path, "external")
    layer_records.note_point(str(one.image), "s1", overlay=str(tmp_path / "elsewhere" / "layer.qcow2"))
    one.take("s1")
    one.write(3)
    one.sound("s1")


@pytest.mark.parametrize("switch", ["none", "symlink", "rename"])
def test_a_snapshot_that_was_left_is_not_taken_for_the_disk(tmp_path: Path, switch: str) -> None:
    one = disk(tmp_path, "external", switch)
    one.take("s1")
    one.write(3)
    one.then["s1.undone"] = one.now()
    one.beats(name="s1", state="reverted")
    left = one.points()["s1.undone"]
    named: dict[str, Any] = {"image": str(left), "switch": "none" if switch == "none" else "rename"}
    for options in ({"name": "s1", "state": "reverted", "save": False}, {"name": "s2"}):
        result = one.refuses("active_unknown", **options, **named)
        assert "s1.undone" in result["msg"]
    one.points_now()
    one.sound("s1", "s1.undone")


def test_no_file_is_moved_to_another_directory_by_a_merge(tmp_path: Path) -> None:
    """Its base has a name relative to the directory that it is in."""
    one = disk(tmp_path, "external")
    golden = one.image.rename(one.image.with_name("golden.qcow2"))
    create(one.image, "qcow2", "", "", "-b", golden.name, "-F", "qcow2")
    (tmp_path / "s1").mkdir()
    one.beats(name="s1", overlay=str(tmp_path / "s1" / "layer.qcow2"))
    one.write(3)
    seen = one.now()
    one.image, one.switch = one.active, "rename"
    one.refuses("directory_differs", name="s1", state="committed")
    assert "stream" in one.beats(name="s1", state="absent")["actions"][0]
    assert (one.now(), Path(str(backing_name(one.active))).name) == (seen, golden.name)


@pytest.mark.skipif(not HAVE_LOOPS, reason="no loop devices")
def test_a_block_device_gets_no_external_snapshots(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(MIB))
    with attached(file) as device:
        one = Disk(Path(device), "external", format="raw", active=Path(device))
        one.refuses("is_device", name="s1")
        one.refuses("is_device", name="s1", overlay=str(tmp_path / "overlay.qcow2"))
        assert not list(Path("/dev").glob("*.s1.qcow2"))


@pytest.mark.parametrize("switch", ["none", "symlink", "rename"])
def test_where_there_are_no_attributes_all_is_remembered_beside_the_files(tmp_path: Path, switch: str) -> None:
    with mounted("none", tmp_path, "-t", "ramfs"):
        one = disk(tmp_path, "external", switch)
        one.take("s1")
        one.write(3)
        one.then["s1.undone"] = one.now()
        one.beats(name="s1", state="reverted")
        one.sound("s1", "s1.undone")
        one.beats(name="s2")
        one.beats(name="s2", state="streamed")
        one.beats(name="s1.undone", state="absent")
        if switch == "none":
            one.image = one.active
            one.image = Path(one.refuses("image_would_go", name="s1", state="committed")["evidence"]["left"])
        one.beats(name="s1", state="committed")
        one.sound()
