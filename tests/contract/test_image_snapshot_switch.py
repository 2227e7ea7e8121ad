"""How the VM comes to its disk is remembered with the layers: a task that forgets it does not lead the disk away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused
from ansible_collections.platter.qemu.tests.lab.machine import machine
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, disk, held


def forgetful(one: Disk) -> Disk:
    """The same disk, for tasks that do not say C(switch)."""
    return Disk(one.image, one.kind, "none", one.format, one.active, one.then, one.result)


@pytest.fixture(params=["symlink", "rename"])
def one(tmp_path: Path, request: pytest.FixtureRequest) -> Disk:
    """With a snapshot by C(switch), and written to since."""
    made = disk(tmp_path, "external", request.param)
    made.take("s1")
    made.write(3)
    return made


def test_the_name_of_the_disk_goes_on_leading_to_it(one: Disk) -> None:
    one = forgetful(one)
    one.take("s2")
    one.write(4)
    assert held(one.image) == one.now()
    one.then["s1.undone"] = one.now()
    one.beats(name="s1", state="reverted")
    one.write(5)
    one.take("s3")
    one.write(6)
    assert held(one.image) == one.now()
    one.sound("s1", "s2", "s1.undone", "s3")


@pytest.mark.parametrize("way", ["committed", "streamed"])
def test_merges_leave_the_disk_under_its_name(one: Disk, way: str) -> None:
    one = forgetful(one)
    one.take("s2")
    one.write(4)
    seen = one.now()
    for name in ("s2", "s1"):
        one.beats(name=name, state=way)
        assert (held(one.image), one.now()) == (seen, seen)
    one.take("s3")  # remembered when there are no snapshots any more
    one.write(5)
    assert held(one.image) == one.now()


def test_another_way_has_to_be_meant(one: Disk) -> None:
    active = one.active
    named = Disk(active, "external", "none", "qcow2", active, one.then)
    reason = "switch_differs"
    told = named.refuses(reason, name="s2", switch="none")
    assert told["evidence"] == {"switch": one.switch}
    named.refuses(reason, name="s1", state="committed", switch="none")
    four_beats(**named.task(name="s2", switch="none", overlay=str(active.with_name("new.qcow2"))))
    four_beats(**named.task(name="s3"))  # and is remembered in its turn


def test_the_file_behind_a_link_is_not_taken_for_the_disk(tmp_path: Path) -> None:
    one = disk(tmp_path, "external", "symlink")
    one.take("s1")
    file = Disk(one.active, "external", active=one.active)
    file.refuses("no_symlink", name="s2")
    file.refuses("no_symlink", name="s1", state="committed")


def test_an_overlay_of_another_name_does_not_go_with_a_rename(tmp_path: Path) -> None:
    one = disk(tmp_path, "external", "rename")
    one.take("s1")
    other = str(one.image.with_name("other.qcow2"))
    forgetful(one).refuses("switch_differs", name="s2", overlay=other)
    refused("bad_option", **one.task(name="s2", overlay=other))


def test_a_rename_of_what_is_not_the_disk(tmp_path: Path) -> None:
    one = disk(tmp_path, "external")
    one.take("s1")
    told = one.refuses("not_active", name="s2", switch="rename")
    assert told["evidence"] == {"active": str(one.active)}
    active = Disk(one.active, "external", "rename", active=one.active)
    active.take("s2")
    active.write(4)
    assert held(active.image) == active.now()


def test_a_named_file_does_not_go_in_a_merge_by_rename(tmp_path: Path) -> None:
    one = disk(tmp_path, "external", "rename")
    one.take("s1")
    point = one.points()["s1"]
    assert point
    told = Disk(point, "external", active=one.active).refuses("image_would_go", name="s1", state="committed")
    assert told["evidence"]["left"] == str(one.image)


@pytest.mark.parametrize("options", [{"name": "s2"}, {"name": "s1", "state": "committed"}], ids=["take", "merge"])
def test_a_running_vm_goes_by_the_names_it_was_started_with(tmp_path: Path, options: dict[str, Any]) -> None:
    one = disk(tmp_path, "external", "rename")
    one.take("s1")
    with machine(tmp_path / "qmp", one.image):
        task = forgetful(one).task(qmp_socket=str(tmp_path / "qmp"), **options)
        refused("guest_running", **task)
        if "state" not in options:
            four_beats(**task, switch="none", overlay=str(one.image.with_name("new.qcow2")))


def test_a_clone_of_a_snapshot_is_a_disk_of_its_own(tmp_path: Path) -> None:
    """Its snapshots are not ours to remove, and its layers are not where our disk could be."""
    one = disk(tmp_path, "external")
    one.take("s1")
    clone = create(one.image.with_name("clone.qcow2"), "qcow2", "", "", "-b", one.image, "-F", "qcow2")
    theirs = Disk(clone, "external", "rename", active=clone)
    theirs.take("c1")
    theirs.write(4)
    theirs.beats(name="c1", state="reverted", save_as="left")
    before = sorted(clone.parent.iterdir())
    assert list(one.points_now()) == ["s1"]
    assert list(theirs.points_now()) == ["c1", "left"]
    one.settled(name="left", state="absent")
    one.take("s2")
    active = Disk(one.active, "external", active=one.active)
    active.settled(state="pruned", match="[cl]*", retention={"keep_last": 1})
    theirs.beats(name="left", state="absent")
    assert len(before) == len(sorted(clone.parent.iterdir()))
    qemu_img("check", "-q", theirs.image)
