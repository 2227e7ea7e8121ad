"""Going back to a snapshot while the VM runs: what the refusals say is what works."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._inspect import vm_definitions
from ansible_collections.platter.qemu.tests.lab import power
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused
from ansible_collections.platter.qemu.tests.lab.guest import scribble, shows
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create

THEN, NOW = ((0x11, 0, 65536),), ((0x22, 0, 65536),)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    path = create(tmp_path / "images" / "a.qcow2", "qcow2", "4M")
    scribble(path, "qcow2", THEN)
    return path


@pytest.fixture
def vm(tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[power.Vm]:
    (tmp_path / "vms").mkdir()
    monkeypatch.setattr(vm_definitions, "registry", lambda: str(tmp_path / "registry"))
    with power.defined(tmp_path, None) as made:
        drive = {"id": "system", "image": {"path": str(disk), "format": "qcow2"}, "device": "virtio-blk-pci"}
        assert call("qemu_drive", vm=made.name, config=made.config, drives=[drive], validate="none")["changed"]
        yield made


@pytest.mark.parametrize("kind", ["internal", "external"])
@pytest.mark.parametrize("behind", [False, True], ids=["unnamed", "behind qmp_socket"])
def test_an_image_of_a_running_vm_goes_back_by_the_way_that_the_refusal_tells(
    vm: power.Vm, disk: Path, kind: str, behind: bool
) -> None:
    task: dict[str, Any] = {"image": str(disk), "format": "qcow2", "name": "s1"}
    if kind == "external":
        task.update(kind=kind, switch="rename")
    back = {**task, "state": "reverted"}
    four_beats(**task)
    scribble(disk, "qcow2", NOW)
    assert vm.call("started")["changed"]
    named = {"qmp_socket": vm.socket} if behind else {}
    told = refused("guest_running" if behind else "image_in_use", **back, **named)["msg"]
    assert "(qemu_vm with state: stopped, if that has started it" in told
    assert ("the role vm_storage stops it by itself, with vm_storage_revert_to" in told) == (kind == "internal")
    assert "set qmp_socket" not in told and "memory to true" not in told
    assert vm.call("stopped", allow_power_off=True, stop_timeout=1)["changed"]
    four_beats(**back)
    shows(disk, "qcow2", THEN)


def test_who_takes_a_snapshot_of_a_running_vm_is_led_to_its_socket(vm: power.Vm, disk: Path) -> None:
    task = {"image": str(disk), "format": "qcow2", "name": "s1"}
    assert vm.call("started")["changed"]
    assert "for a running QEMU, set qmp_socket to its socket." in refused("image_in_use", **task)["msg"]
    four_beats(**task, qmp_socket=vm.socket)
