"""VMs that were started from another file than the disk of now, and points that were never anywhere: no name is lost."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.platter.qemu.plugins.module_utils._tools import records
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.guest import qemu_io
from ansible_collections.platter.qemu.tests.lab.live import holds
from ansible_collections.platter.qemu.tests.lab.machine import machine
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.programs import exported
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, disk


def test_a_vm_that_runs_on_a_snapshot_does_not_take_its_name(tmp_path: Path) -> None:
    one = disk(tmp_path, "external")
    one.take("s1")
    socket = tmp_path / "qmp"
    with machine(socket, str(one.image)) as vm:
        vm.write(9, 0)
        for options in ({"name": "s2"}, {"name": "s1"}, {"name": "s1", "state": "absent"}):
            told = one.refuses("active_unknown", qmp_socket=str(socket), **options)
            assert told["evidence"] == {"layers": [str(one.active)]}
    assert one.points_now() == {"s1": one.image}


def test_a_snapshot_whose_disk_has_gone_is_removed_as_an_image(tmp_path: Path) -> None:
    """As the guide of the role vm_storage says, which removes a VM's disks."""
    one = disk(tmp_path, "external", "rename")
    one.take("s1")
    left = str(one.points()["s1"])
    assert call("disk_image", path=str(one.image), state="absent")["changed"]
    for state in ("absent", "committed", "streamed"):
        refused("active_unknown", **one.task(image=left, name="s1", state=state))
    assert call("disk_image", path=left, state="absent")["changed"] and not list(tmp_path.glob("*.qcow2"))


def test_a_vm_that_runs_on_what_was_left_does_not_take_its_name(tmp_path: Path) -> None:
    one = disk(tmp_path, "external", "rename")
    one.take("s1")
    one.write(3)
    one.beats(name="s1", state="reverted")
    left = one.points()["s1.undone"]
    with machine(tmp_path / "qmp", str(left)):
        refused("active_unknown", **one.task(image=str(left), name="s2", qmp_socket=str(tmp_path / "qmp")))
    assert "s1.undone" in one.points_now()


def test_who_writes_below_the_disk_of_now_is_a_user_of_it(tmp_path: Path) -> None:
    """A reader is none: a base may have many."""
    one = disk(tmp_path, "external")
    one.take("s1")
    with exported(one.image, "qcow2", tmp_path / "socket"):
        told = one.refuses("image_in_use", name="s2")
        assert told["evidence"]["in_use_by"][0]["name"] == "qemu-nbd"
    with exported(one.image, "qcow2", tmp_path / "socket", "--read-only"):
        one.beats(name="s2")


def never_taken(tmp_path: Path) -> Disk:
    """As a run leaves it that is killed before the running QEMU is on the new overlay."""
    one = disk(tmp_path, "external")
    one.take("s1")
    record = records.read_record(str(one.image))
    record["snapshot"] = {key: record["snapshot"][key] for key in ("name", "date", "overlays")}
    records.write_record(str(one.image), record)
    one.active = one.image
    one.write(7)
    return one


def test_a_snapshot_that_was_never_taken_is_not_there_when_its_vm_has_ended(tmp_path: Path) -> None:
    one = never_taken(tmp_path)
    settled(**one.task(name="s1", state="absent"))
    one.refuses("snapshot_missing", name="s1", state="reverted")
    assert one.points_now() == {}
    result = four_beats(**one.task(name="s1"))
    assert len(result["actions"]) == 2 and "nobody has used" in result["actions"][0]
    holds(one.image, (7, 0))


def test_a_snapshot_with_data_on_it_was_taken(tmp_path: Path) -> None:
    """The run was killed later, and the VM has gone on."""
    one = never_taken(tmp_path)
    one.active = Path(f"{one.image.with_suffix('')}.s1.qcow2")
    one.write(8)
    (action,) = one.beats(name="s1")["actions"]
    assert "as a run was killed before it noted that" in action
    qemu_io(one.image, "qcow2", "write -q -P 5 0 64k")
    one.refuses("snapshot_altered", name="s1", state="reverted")


def test_names_stay_when_the_overlays_that_are_noted_go(tmp_path: Path) -> None:
    """Only the last few are, and their owner is another than that of the base."""
    one = disk(tmp_path, "external", "rename")
    one.take("s0")
    one.write(3)
    one.take("s1")
    os.chown(one.active, 1234, 1234)
    for name in [*["s1"] * 6, "s0"]:
        one.write(10 + len(one.points()))
        one.beats(name=name, state="reverted")
    left = ["s1.undone", *(f"s1.undone-{number}" for number in range(2, 7))]
    assert set(one.points_now()) == {"s0", "s1", "s0.undone", *left}
    for name in ["s0.undone", *reversed(left)]:
        one.beats(name=name, state="absent")
    assert list(one.points_now()) == ["s0", "s1"]
