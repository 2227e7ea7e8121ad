"""The disks of VMs as the tasks that they come to: whatever place an image is at, it is told alike."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.platter.qemu.plugins.filter.vm_disks import vm_disks
from ansible_collections.platter.qemu.plugins.module_utils._drive import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._module import (
    drive_options,
    image_options,
    power_options,
    snapshot_options,
)

BASE = {"path": "/i/golden", "format": "qcow2"}
IMAGE = {"path": "/i/web1", "size": "40G", "backing": BASE}
SYSTEM: dict[str, t.Any] = {"name": "system", "image": IMAGE, "drive": {"bootindex": 1}}
COMMON = {"image": {"format": "qcow2", "owner": "vms"}, "drive": {"device": "scsi-hd"}, "sockets": "/run/s"}
NODE = {"driver": "nbd", "server": {"type": "unix", "path": "/s"}}


def one(*disks: t.Any, **more: t.Any) -> dict[str, t.Any]:
    """The tasks of one VM."""
    return vm_disks([{"name": "web1", "disks": list(disks), **more}], COMMON)


def test_an_image_and_its_drive() -> None:
    found = one(SYSTEM, definition={"arguments": ["-m", "1G"], "config": "/c/web1"}, process={"stop_timeout": 5})
    image = {"path": "/i/web1", "format": "qcow2", "owner": "vms", "size": "40G", "backing": BASE}
    image["qmp_socket"] = "/run/s/web1.qmp"
    drive = {"id": "system", "image": {"path": "/i/web1", "format": "qcow2"}, "device": "scsi-hd", "bootindex": 1}
    vm = {"vm": "web1", "qmp_socket": "/run/s/web1.qmp", "config": "/c/web1"}
    assert found == {
        "images": [{"vm": "web1", "image": image}],
        "gone": [],
        "snapshots": [],
        "reverts": [],
        "definitions": [{**vm, "purge": True, "arguments": ["-m", "1G"], "drives": [drive]}],
        "stop": [],
        "start": [{**vm, "stop_timeout": 5, "state": "started"}],
        "drives": [{"vm": "web1", "drives": {"drives": [drive]}}],
    }


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/i/d", {"path": "/i/d"}),
        ("/dev/vg0/d", {"path": "/dev/vg0/d"}),
        ("nbd://store1/d", {"uri": "nbd://store1/d"}),
        ("ssh://u@store1/i/d", {"uri": "ssh://u@store1/i/d"}),
        (NODE, {"blockdev": NODE}),
    ],
)
def test_what_is_there_already_is_a_drive_only_wherever_it_is(path: t.Any, place: dict[str, t.Any]) -> None:
    told = {"path": path, "format": "raw"}
    found = one({"name": "d", "image": told})
    assert (found["images"], found["drives"][0]["drives"]["drives"][0]["image"]) == ([], {**place, "format": "raw"})
    assert one({"name": "d", "image": {**told, "size": "1G"}})["images"][0]["image"]["path"] == path
    assert one({"name": "d", "image": told}, state="absent")["gone"] == []


def test_what_goes_and_what_stays() -> None:
    disks = [SYSTEM, {"name": "kept", "keep": True, "image": {**SYSTEM["image"], "path": "/i/kept"}}]
    gone = [{"vm": "web1", "image": {"path": "/i/web1", "state": "absent"}}]
    found = one(*disks, state="absent", definition={"config": "/c"})
    assert (found["images"], found["gone"], found["start"], found["drives"]) == ([], gone, [], [])
    assert found["definitions"] == [{"vm": "web1", "state": "absent", "config": "/c"}]
    assert [each["state"] for each in found["stop"]] == ["absent"]
    found = one({**disks[0], "state": "absent"}, disks[1])
    assert found["gone"] == gone and [each["image"]["path"] for each in found["images"]] == ["/i/kept"]
    assert found["definitions"][0]["drives"][0] == {"id": "system", "state": "absent"}
    assert [each["id"] for each in found["drives"][0]["drives"]["drives"]] == ["kept"]


def test_snapshots_are_of_images_that_are_made_and_may_have_one() -> None:
    disks = [SYSTEM, {**SYSTEM, "name": "no", "snapshot": False}, {"name": "cd", "drive": {"device": "ide-cd"}}]
    found = one(*disks, snapshot_before={"name": "before"})
    told = {"name": "before", "image": "/i/web1", "format": "qcow2", "qmp_socket": "/run/s/web1.qmp"}
    assert found["snapshots"] == [told] and one(*disks)["snapshots"] == []


def test_what_opens_an_image_opens_it_for_its_snapshots_too() -> None:
    image = {"path": "/i/a", "format": "qcow2", "encryption": {"secret_file": "/etc/keys/a", "iter_time": 100}}
    vm = {
        "name": "a",
        "disks": [{"name": "x", "image": image}],
        "snapshot_before": {"name": "b"},
        "revert_to": {"name": "p"},
    }
    found = vm_disks([vm])
    for point in (found["snapshots"][0], found["reverts"][0]["revert"], found["reverts"][0]["take"]):
        assert point["encryption"] == {"secret_file": "/etc/keys/a"}
    vm["revert_to"]["encryption"] = {"secret_file": "/other"}
    assert vm_disks([vm])["reverts"][0]["take"]["encryption"] == {"secret_file": "/other"}


def test_a_vm_that_runs_is_stopped_while_its_images_are_set_back() -> None:
    disks = [SYSTEM, {**SYSTEM, "name": "no", "snapshot": False}, {"name": "cd", "drive": {"device": "ide-cd"}}]
    found = one(*disks, revert_to={"name": "pristine", "save": False, "on_in_use": "wait"})
    place = {"image": "/i/web1", "format": "qcow2", "qmp_socket": "/run/s/web1.qmp", "on_in_use": "wait"}
    back = {**place, "name": "pristine", "save": False, "state": "reverted"}
    assert found["reverts"] == [
        {"vm": "web1", "revert": back, "take": {**place, "name": "pristine", "state": "present"}}
    ]
    assert [each["state"] for each in found["stop"] + found["start"]] == ["stopped", "started"]
    assert set(back) <= set(snapshot_options.argument_spec())


@pytest.mark.parametrize(("state", "stopped"), [("stopped", ["stopped"]), ("defined", []), ("absent", ["absent"])])
def test_a_vm_that_is_not_to_run_is_told_once(state: str, stopped: list[str]) -> None:
    found = one(SYSTEM, state=state, revert_to={"name": "pristine"})
    assert ([each["state"] for each in found["stop"]], found["start"]) == (stopped, [])
    assert len(found["reverts"]) == (state != "absent")


@pytest.mark.parametrize(("state", "asked"), [("started", False), ("stopped", False), ("defined", True)])
def test_a_vm_that_is_stopped_first_does_not_go_back_with_its_memory(state: str, asked: bool) -> None:
    found = one(SYSTEM, state=state, revert_to={"name": "pristine", "memory": True})
    assert ("memory" in found["reverts"][0]["revert"]) == asked


def test_one_vm_of_many_is_not_set_back() -> None:
    common = {**COMMON, "revert_to": {"name": "pristine", "save": False}}
    vms = [{"name": name, "disks": [{"name": "d", "image": {**IMAGE, "path": "/i/" + name}}]} for name in "ab"]
    found = vm_disks([vms[0], {**vms[1], "revert_to": {"name": ""}}], common)
    assert [each["vm"] for each in found["reverts"]] == ["a"] == [each["vm"] for each in found["stop"]]


@pytest.mark.parametrize(
    ("image", "more", "said"),
    [
        (
            {"path": "/i/d", "format": "raw"},
            {},
            r"its disk d can have no snapshot \(raw at /i/d\). Write snapshot: false",
        ),
        ({"path": "nbd://store1/d"}, {}, r"can have no snapshot \(qcow2 at nbd://store1/d\)"),
        (
            {"path": "/i/d"},
            {"kind": "external"},
            "VM web1: revert_to goes back to internal snapshots, and has kind external",
        ),
    ],
)
def test_what_has_no_way_back_is_told(image: dict[str, t.Any], more: dict[str, t.Any], said: str) -> None:
    with pytest.raises(AnsibleFilterError, match=said):
        one({"name": "d", "image": {"size": "1G", **image}}, revert_to={"name": "pristine", **more})


@pytest.mark.parametrize(
    ("image", "switch", "said"),
    [
        ({}, {}, "switch unset, after which its disk d would be another file than /i/d. Leave kind out"),
        ({}, {"switch": "none", "overlay": "/i/o"}, "switch none, after which its disk d would be another file"),
        (
            {"format": "raw"},
            {"switch": "rename"},
            "its disk d would be qcow2 after it, and no more raw. Write snapshot: false",
        ),
    ],
)
@pytest.mark.parametrize("state", ["started", "stopped", "defined"])
def test_an_external_snapshot_that_moves_the_disk_is_refused(
    image: dict[str, t.Any], switch: dict[str, t.Any], said: str, state: str
) -> None:
    wanted = {"name": "before", "kind": "external", **switch}
    disk = {"name": "d", "image": {"path": "/i/d", "size": "1G", **image}}
    with pytest.raises(AnsibleFilterError, match="VM web1: snapshot_before is external.*" + said):
        one(disk, state=state, snapshot_before=wanted)
    for left in ({**disk, "snapshot": False}, {"name": "d", "image": {"path": "/i/d", **image}}):
        assert one(left, state=state, snapshot_before=wanted)["snapshots"] == []
    assert one(disk, state="absent", snapshot_before=wanted)["snapshots"] == []


@pytest.mark.parametrize("switch", ["rename", "symlink"])
def test_an_external_snapshot_that_leaves_the_disk_its_name_is_taken(switch: str) -> None:
    wanted = {"name": "before", "kind": "external", "switch": switch}
    assert one(SYSTEM, snapshot_before=wanted)["snapshots"][0]["switch"] == switch
    assert one(SYSTEM, snapshot_before={"name": "before", "kind": "internal"})["snapshots"][0]["kind"] == "internal"


def test_an_image_takes_a_default_away() -> None:
    """As one that is moved to raw, where the others have a base."""
    moved = {"path": "/i/web1.raw", "format": "raw", "size": "40G", "backing": None}
    common = {**COMMON, "image": {"format": "qcow2", "backing": BASE}}
    found = vm_disks([{"name": "web1", "disks": [{"name": "system", "image": moved}]}], common)
    assert found["images"][0]["image"] == {**moved, "qmp_socket": "/run/s/web1.qmp"}


def test_many_say_what_is_their_own() -> None:
    common = {**COMMON, "state": "stopped", "definition": {"arguments": ["-m", "1G"], "machine": "q35"}}
    found = vm_disks([{"name": "a"}, {"name": "b", "state": "defined", "definition": {"machine": "pc"}}], common)
    assert [(each["vm"], each["machine"], each["arguments"]) for each in found["definitions"]] == [
        ("a", "q35", ["-m", "1G"]),
        ("b", "pc", ["-m", "1G"]),
    ]
    assert [each["vm"] for each in found["stop"]] == ["a"] and found["start"] == []


def test_the_modules_and_filters_know_all_of_it() -> None:
    found = one(SYSTEM, state="stopped")
    assert set(found["images"][0]["image"]) <= set(image_options.image_options())
    assert set(found["definitions"][0]) <= set(drive_options.vm_options())
    assert set(found["stop"][0]) <= set(power_options.power_options())
    assert [each.id for each in read_spec.read(found["drives"][0]["drives"], "pc").drives] == ["system"]


@pytest.mark.parametrize(
    ("vm", "said"),
    [
        ({"name": "a", "disk": []}, "a VM has disk, and can have name"),
        ({"disks": []}, "a VM has no name"),
        ({"name": "a", "state": "paused"}, "the state of VM a is 'paused'"),
        ({"name": "a", "disks": [{"name": "d"}, {"name": "d"}]}, "VM a has two disks with the name d"),
        ({"name": "a", "disks": [{"image": {}}]}, "a disk of VM a has no name"),
        ({"name": "a", "disks": [{"name": "d", "format": "raw"}]}, "a disk of VM a has format"),
        ({"name": "a", "disks": [{"name": "d", "image": {"size": "1G"}}]}, "VM a, d, has an image without a path"),
        ("a", "a VM is no dictionary"),
    ],
)
def test_what_is_not_understood_is_told(vm: t.Any, said: str) -> None:
    with pytest.raises(AnsibleFilterError, match=said):
        vm_disks([vm])


@pytest.mark.parametrize(
    "left",
    [
        {"name": "web1", "state": "absent", "disks": [{"name": "data", "image": {"path": "/i//data", "size": "1G"}}]},
        {"name": "web1", "disks": [{"name": "data", "state": "absent", "image": {"path": "/i/data", "size": "1G"}}]},
    ],
)
def test_what_another_vm_has_is_not_given_up(left: dict[str, t.Any]) -> None:
    had: dict[str, t.Any] = {
        "name": "web2",
        "disks": [{"name": "data", "image": {"path": "/i/data", "format": "qcow2"}}],
    }
    for vms in ([left, had], [had, left]):
        with pytest.raises(AnsibleFilterError, match=r"VM web1 gives up /i/+data, and VM web2 has it. Set keep: true"):
            vm_disks(vms, COMMON)
    kept = [{**disk, "keep": True} for disk in left["disks"]]
    assert vm_disks([{**left, "disks": kept}, had], COMMON)["gone"] == []
    assert len(vm_disks([left, {**had, "state": "absent"}], COMMON)["gone"]) == 1
