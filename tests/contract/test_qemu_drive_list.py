"""The drives of many VMs in one task: judged by what all of them will have, and written, or refused, together."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp
from ansible_collections.platter.qemu.plugins.module_utils._vm import places, store
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused
from ansible_collections.platter.qemu.tests.lab.drive_qemu import started
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create

NAMES = ("a", "b", "c")


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images, and the links to all VMs, of this test only."""
    monkeypatch.setattr(places, "registry", lambda: str(tmp_path / "registry"))
    (tmp_path / "vms").mkdir()
    for name in NAMES:
        create(tmp_path / name, "qcow2", "16M")


def vm(tmp_path: Path, name: str, *images: str, **more: Any) -> dict[str, Any]:
    """An entry of the list, with a drive for each image."""
    drives = [
        {"id": each, "image": {"path": str(tmp_path / each), "format": "qcow2"}, "device": "virtio-blk-pci"}
        for each in images
    ]
    return {"vm": name, "config": str(tmp_path / "vms" / name), "drives": drives, **more}


def defined(tmp_path: Path) -> dict[str, list[str]]:
    """The drives of each VM, as its definition has them."""
    found = {name: store.read(str(tmp_path / "vms" / name)) for name in sorted(os.listdir(tmp_path / "vms"))}
    return {name: [each.id for each in made.spec.drives] for name, made in found.items() if made is not None}


def test_all_are_defined_by_one_task(tmp_path: Path) -> None:
    options = {"arguments": ["-m", "64"], "validate": "device"}
    real = four_beats(vms=[vm(tmp_path, "one", "a"), vm(tmp_path, "two", "b", arguments=["-m", "32"])], **options)
    told = [each["definition"] for each in real["vms"]]
    assert [(each["vm"], each["args"][2:4]) for each in told] == [("one", ["-m", "64"]), ("two", ["-m", "32"])]
    assert [each["validation"] for each in real["vms"]] == [{"level": "device"}] * 2
    for each in told:
        assert Path(each["config"], "args").read_text().split("\0")[:-1] == each["args"]
    assert defined(tmp_path) == {"one": ["a"], "two": ["b"]}
    gone = [{"vm": name, "config": str(tmp_path / "vms" / name)} for name in ("one", "two")]
    four_beats(vms=gone, state="absent", validate="none")
    assert os.listdir(tmp_path / "vms") == [] and not call("qemu_drive", vms=[])["changed"]


def test_two_that_claim_one_image_are_refused_and_the_third_is_not(tmp_path: Path) -> None:
    told = [vm(tmp_path, "one", "a"), vm(tmp_path, "two", "b", "a"), vm(tmp_path, "three", "c")]
    assert "2 of 3 vms: one (image_claimed), two (" in refused("image_claimed", vms=told, validate="none")["msg"]
    assert defined(tmp_path) == {}
    result = call("qemu_drive", vms=told, validate="none", fail_fast=False)
    assert result["failed"] and [each["changed"] for each in result["vms"]] == [False, False, True]
    assert defined(tmp_path) == {"three": ["c"]}


def test_one_takes_over_what_another_gives_up(tmp_path: Path) -> None:
    four_beats(vms=[vm(tmp_path, "one", "a", "b"), vm(tmp_path, "two", "c")], validate="none")
    moved = [vm(tmp_path, "two", "c", "a"), vm(tmp_path, "one", "b", purge=True)]
    four_beats(vms=moved, validate="none")
    assert defined(tmp_path) == {"one": ["b"], "two": ["c", "a"]}
    renamed = [vm(tmp_path, "new", "c", "a"), vm(tmp_path, "two", state="absent")]
    real = four_beats(vms=renamed, validate="none")
    assert defined(tmp_path) == {"new": ["c", "a"], "one": ["b"]} and len(real["actions"]) == 2


def test_what_is_not_given_up_after_all_is_not_taken_over(tmp_path: Path) -> None:
    four_beats(vms=[vm(tmp_path, "one", "a")], validate="none")
    told = [vm(tmp_path, "one", "away", purge=True), vm(tmp_path, "two", "a")]
    result = call("qemu_drive", vms=told, validate="open", fail_fast=False)
    assert [each["reason"] for each in result["vms"]] == ["image_missing", "image_claimed"]
    assert defined(tmp_path) == {"one": ["a"]}


def test_a_vm_or_a_directory_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    other = dict(vm(tmp_path, "two", "b"), config=str(tmp_path / "vms" / "one"))
    for second, said in ((vm(tmp_path, "one", "b"), "it is listed twice"), (other, "is that of VM one too")):
        refusal = refused("duplicate_item", vms=[vm(tmp_path, "one", "a"), second], validate="none")
        assert said in refusal["msg"], refusal


def test_running_ones_are_changed_too(tmp_path: Path) -> None:
    names = ("one", "two")
    told = [vm(tmp_path, each, "ab"[at], qmp_socket=str(tmp_path / f"{each}.qmp")) for at, each in enumerate(names)]
    options = {"arguments": ["-m", "64"], "validate": "none"}
    four_beats(vms=told, **options)
    one, two = (str(tmp_path / "vms" / each / "start") for each in names)
    with started(tmp_path / "one.qmp", one), started(tmp_path / "two.qmp", two):
        told[0]["drives"] += vm(tmp_path, "one", "c")["drives"]
        told[1]["drives"] = [{"id": "b", "state": "absent"}]
        told[1]["unplug_timeout"] = 0  # its guest does not run
        result = call("qemu_drive", vms=told, **options)
        assert [each.get("reason") for each in result["vms"]] == [None, "unplug_pending"], result
        with Qmp.connect(str(tmp_path / "one.qmp")) as qmp:
            opened = {each["file"] for each in qmp.execute("query-named-block-nodes") if each["drv"] == "file"}
        assert opened == {str(tmp_path / "a"), str(tmp_path / "c")}
    assert defined(tmp_path) == {"one": ["a", "c"], "two": []}
