"""Where the files of a disk lie: in several directories, on devices, where there are no attributes; and which is the disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._snapshot import layer_records
from ansible_collections.platter.qemu.tests.lab.guest import MIB
from ansible_collections.platter.qemu.tests.lab.led import NOBODY, given, place_of_roots
from ansible_collections.platter.qemu.tests.lab.loops import HAVE_LOOPS, attached, mounted
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, backing_name, disk, held
from ansible_collections.platter.qemu.tests.lab.zygote import Zygote


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


# --- directories that are named by a link, or closed


@pytest.mark.parametrize("whose", ["own", "another's"])
def test_an_overlay_in_a_directory_that_is_named_by_a_link(tmp_path: Path, whose: str) -> None:
    one = disk(tmp_path, "external")
    link = tmp_path / "user" / "link"
    link.parent.mkdir()
    link.symlink_to(one.image.parent)
    if whose == "own":
        result = one.beats(name="s1", overlay=str(link / "layer.qcow2"))
        assert result["snapshot"]["active"] == str(one.image.parent / "layer.qcow2")
        return
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    one.refuses("unsafe_directory", name="s1", overlay=str(link / "layer.qcow2"))
    assert [path.name for path in one.image.parent.iterdir()] == [one.image.name]


@pytest.fixture
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    started = Zygote(tmp_path_factory.mktemp("processes"))
    yield started
    started.close()


def test_a_user_has_snapshots_of_a_clone_whose_template_lies_in_a_closed_directory(zygote: Zygote) -> None:
    """The template has a snapshot, and so what we remember of one."""
    with place_of_roots() as place:
        golden, image = place / "lib" / "golden.qcow2", place / "user" / "clone.qcow2"
        for path in (golden, image):
            path.parent.mkdir()
        create(golden, "qcow2", "1M")
        assert call("image_snapshot", image=str(golden), format="qcow2", kind="external", name="s0")["changed"]
        given(create(image, "qcow2", "", "", "-b", golden, "-F", "qcow2"), group=NOBODY)
        given(image.parent, 0o755)
        golden.parent.chmod(0o711)
        task = {"image": str(image), "format": "qcow2", "kind": "external", "switch": "rename", "name": "s1"}
        for more in ({}, {"state": "reverted"}, {"state": "absent"}):
            for check in (True, False):
                result = zygote.run("image_snapshot", {**task, **more}, check=check, uid=NOBODY)
                assert not result.get("failed"), result.get("msg")
        assert [path.name for path in image.parent.iterdir()] == [image.name]
        image.parent.chmod(0o300)
        result = zygote.run("image_snapshot", task, uid=NOBODY)
        assert result["failed"] and "cannot be searched" in result["msg"], result


def test_only_what_lies_beside_something_unreadable_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        create(tmp_path / name / "vm.qcow2", "qcow2", "1M")
    (tmp_path / "a" / "unreadable").symlink_to("/proc/self/mem")
    entries = [{"image": str(tmp_path / name / "vm.qcow2")} for name in ("a", "b")]
    result = call("image_snapshot", format="qcow2", name="s1", snapshots=entries, fail_fast=False)
    assert [each["changed"] for each in result["snapshots"]] == [False, True], result
    assert "cannot be read" in result["snapshots"][0]["msg"]


def test_only_the_image_whose_files_cannot_be_told_is_refused(tmp_path: Path) -> None:
    """A link that leads nowhere is found before anything is locked."""
    create(tmp_path / "vm.qcow2", "qcow2", "1M")
    (tmp_path / "link.qcow2").symlink_to("nowhere")
    entries = [{"image": str(tmp_path / name)} for name in ("link.qcow2", "vm.qcow2")]
    task = {"format": "qcow2", "name": "s1", "kind": "external", "snapshots": entries, "fail_fast": False}
    for check in (True, False):
        result = call("image_snapshot", check=check, **task)
        assert [each.get("reason") for each in result["snapshots"]] == ["dangling_symlink", None], result
        assert [each["changed"] for each in result["snapshots"]] == [False, True]
