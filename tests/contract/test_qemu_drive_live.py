"""A VM that runs is made as it is defined, over QMP; what it does not give up, or cannot change, is said."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import socketserver
import threading
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._tools import locks
from ansible_collections.platter.qemu.plugins.module_utils._vm import live, places
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.drive_qemu import started
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE, exported, running, wait_for_monitor


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The links to all VMs, of this test only."""
    monkeypatch.setattr(places, "registry", lambda: str(tmp_path / "registry"))


@pytest.fixture
def vm(tmp_path: Path) -> dict[str, Any]:
    """The options of a task, with QMP; VM and definition are still to be made."""
    (tmp_path / "vms").mkdir()
    for name in ("a", "b", "c"):
        create(tmp_path / name, "qcow2", "16M")
    config, monitor = str(tmp_path / "vms" / "web1"), str(tmp_path / "qmp")
    return {"vm": "web1", "config": config, "qmp_socket": monitor, "arguments": ["-m", "64"], "validate": "open"}


def disk(tmp_path: Path, name: str, device: str = "scsi-hd", **more: Any) -> dict[str, Any]:
    return {"id": name, "image": {"path": str(tmp_path / name), "format": "qcow2"}, "device": device, **more}


def open_files(monitor: str) -> set[str]:
    """What QEMU has open, by its own answer."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(DEADLINE)
        client.connect(monitor)
        lines = client.makefile("rw", encoding="utf-8")
        lines.readline()
        for command in ("qmp_capabilities", "query-named-block-nodes"):
            lines.write(json.dumps({"execute": command, "arguments": {}}) + "\n")
            lines.flush()
            told = json.loads(lines.readline())
        return {os.path.basename(each["file"]) for each in told["return"] if each["drv"] == "file"}


def test_drives_come_to_a_vm_that_runs_and_go(tmp_path: Path, vm: dict[str, Any]) -> None:
    real = four_beats(drives=[disk(tmp_path, "a")], **vm)
    assert real["live"] == {"qmp_socket": vm["qmp_socket"], "running": False}
    with started(tmp_path / "qmp", vm["config"] + "/start"):
        settled(drives=[disk(tmp_path, "a")], **vm)
        more = four_beats(drives=[disk(tmp_path, "b"), disk(tmp_path, "c", "virtio-blk-pci")], **vm)
        assert [each["drive"] for each in more["live"]["drift"]] == ["b", "c"] and not more["live"]["needs_restart"]
        assert open_files(vm["qmp_socket"]) == {"a", "b", "c"}
        less = four_beats(drives=[{"id": "b", "state": "absent"}], **vm)
        assert [action.split(" ")[0] for action in less["actions"]] == ["Define", "Unplug"]
        assert open_files(vm["qmp_socket"]) == {"a", "c"} and not less["live"]["undeclared"]
        last = four_beats(drives=[{"id": "a", "state": "absent"}], **vm)
        assert last["live"]["undeclared"] == ["scsi0"], "the controller was for its drives, and stays"


def test_what_waits_for_a_new_start_is_told_of_one_that_was_started_with_two_minus_signs(
    tmp_path: Path, vm: dict[str, Any]
) -> None:
    prepared("qemu_drive", drives=[disk(tmp_path, "a")], **vm)
    monitor = ("--qmp", f"unix:{vm['qmp_socket']},server=on,wait=off")
    with running(vm["config"] + "/start", "-S", "-nodefaults", "-display", "none", *monitor) as qemu:
        wait_for_monitor(qemu, tmp_path / "qmp")
        (tmp_path / "qmp").chmod(0o600)
        told = call("qemu_drive", **{**vm, "arguments": ["-m", "128"]})
    assert [each["what"] for each in told["live"]["needs_restart"]] == ["arguments"], told


def test_an_export_for_one_client_is_not_asked_for_a_second_one(tmp_path: Path, vm: dict[str, Any]) -> None:
    node = {"driver": "nbd", "server": {"type": "unix", "path": str(tmp_path / "nbd")}, "export": "data"}
    far = {"id": "far", "image": {"blockdev": node}, "device": "virtio-blk-pci"}
    options = dict(vm, validate="device")
    with exported(tmp_path / "c", "qcow2", tmp_path / "nbd", "--shared=1", "-x", "data"):
        four_beats(drives=[far], **options)
        with started(tmp_path / "qmp", vm["config"] + "/start"):
            real = four_beats(drives=[disk(tmp_path, "b")], **options)
            assert real["validation"] == {"level": "device", "open_already": ["far"]}
            for seconds in (3, 20, 100):  # in which QEMU has to come as far as to ask
                refusal = call("qemu_drive", drives=[dict(far, cache="none")], timeout=seconds, **options)
                if "drive far of VM web1" in refusal["msg"]:
                    break
    assert refusal["reason"] == "validation_failed", refusal
    assert "drive far of VM web1" in refusal["msg"] and "raise shared of the export" in refusal["msg"], refusal
    assert f"export 'data' of the NBD server at {tmp_path / 'nbd'}" in refusal["msg"] and refusal["evidence"]["places"]


def test_the_monitor_of_another_vm_is_refused(tmp_path: Path, vm: dict[str, Any]) -> None:
    other = dict(vm, vm="web2", config=str(tmp_path / "vms" / "web2"))
    four_beats(drives=[disk(tmp_path, "a")], **other)
    with started(tmp_path / "qmp", other["config"] + "/start"):
        refusal = refused("other_vm", drives=[disk(tmp_path, "b")], purge=True, **vm)
        assert refusal["msg"].startswith("refused: changing the running VM: the QEMU at ")
        assert open_files(vm["qmp_socket"]) == {"a"}


def test_a_vm_that_loses_its_definition_while_it_runs_is_told(tmp_path: Path, vm: dict[str, Any]) -> None:
    four_beats(drives=[disk(tmp_path, "a")], **vm)
    gone = {"vm": vm["vm"], "config": vm["config"], "state": "absent"}
    with started(tmp_path / "qmp", vm["config"] + "/start") as qemu:
        for check in (True, False):
            told = call("qemu_drive", check=check, **gone)
            assert told["changed"] and f"VM web1 runs (process {qemu.pid}), and goes on with" in str(told["warnings"])
            assert ("unless an earlier task stops it" in str(told["warnings"])) is check
        again = call("qemu_drive", **gone)
        assert not again["changed"] and "warnings" not in again and qemu.poll() is None
    four_beats(drives=[disk(tmp_path, "a")], **vm)
    assert "warnings" not in call("qemu_drive", **gone)


def test_a_slip_in_the_id_of_a_drive_that_is_to_go_is_told(tmp_path: Path, vm: dict[str, Any]) -> None:
    prepared("qemu_drive", drives=[disk(tmp_path, "a")], **vm)
    told = call("qemu_drive", drives=[{"id": "aa", "state": "absent"}], **vm)
    assert not told["changed"] and "VM web1 has no drive aa" in str(told["warnings"])


class HangsUp(socketserver.BaseRequestHandler):
    """What does not speak first, and ends: an NBD server does so when it is asked in words that it does not know."""

    def handle(self) -> None:
        """Nothing is said."""


def test_a_socket_that_is_no_monitor_is_refused_with_a_way_out(tmp_path: Path, vm: dict[str, Any]) -> None:
    with socketserver.UnixStreamServer(vm["qmp_socket"], HangsUp) as server:
        os.chmod(vm["qmp_socket"], 0o600)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            result = refused("qmp_unreachable", drives=[disk(tmp_path, "a")], **vm)
        finally:
            server.shutdown()
            thread.join(30)
    assert result["msg"].startswith("refused: looking at the running VM: QMP on ")
    assert result["msg"].endswith("that of an NBD server or a guest agent is none.")
    assert result["evidence"] == {"socket": vm["qmp_socket"]}


def test_what_others_have_done_to_the_vm_is_drift(tmp_path: Path, vm: dict[str, Any]) -> None:
    drives = [disk(tmp_path, "a"), disk(tmp_path, "b")]
    four_beats(drives=drives, **vm)
    with started(tmp_path / "qmp", vm["config"] + "/start"):
        without = {key: value for key, value in vm.items() if key != "qmp_socket"}
        four_beats(drives=[{"id": "b", "state": "absent"}], **without)
        left = call("qemu_drive", **vm)
        assert (left["changed"], left["live"]["undeclared"]) == (False, ["b"]), left
        four_beats(drives=drives, **without)
        assert not call("qemu_drive", **vm)["changed"]
        gone = four_beats(drives=drives[:1], purge=True, **vm)
        assert gone["live"]["drift"] == [{"drive": "b", "what": "drive", "live": "scsi-hd", "declared": None}]
        assert open_files(vm["qmp_socket"]) == {"a"}


def test_what_needs_a_new_start_is_named_each_time(tmp_path: Path, vm: dict[str, Any]) -> None:
    four_beats(drives=[disk(tmp_path, "a")], **vm)
    with started(tmp_path / "qmp", vm["config"] + "/start"):
        change = [disk(tmp_path, "a", serial="NEW"), disk(tmp_path, "b", "ide-hd", bus="ide.0", unit=0)]
        real = four_beats(drives=change, **vm)
        assert {(each["drive"], each["what"]) for each in real["live"]["needs_restart"]} == {
            ("a", "serial"),
            ("b", "drive"),
        }
        again = call("qemu_drive", drives=change, **vm)
        assert again["live"]["needs_restart"] == real["live"]["needs_restart"] and not again["changed"]
        other = dict(vm, arguments=["-m", "65"], style="drive_device")
        told = call("qemu_drive", drives=change, **other)["live"]["needs_restart"]
        assert [each["what"] for each in told if each["drive"] is None] == ["arguments", "style"]
        assert call("qemu_drive", **dict(other, arguments=[]))["live"]["needs_restart"] == told
        assert (
            call("qemu_drive", **dict(vm, style="blockdev"))["live"]["needs_restart"] == real["live"]["needs_restart"]
        )
    with started(tmp_path / "qmp", vm["config"] + "/start"):
        assert call("qemu_drive", **vm)["live"]["needs_restart"] == []


def test_a_guest_that_does_not_answer_keeps_its_drive_and_the_task_says_so(tmp_path: Path, vm: dict[str, Any]) -> None:
    drives = [disk(tmp_path, "a"), disk(tmp_path, "b", "virtio-blk-pci")]
    four_beats(drives=drives, **vm)
    with started(tmp_path / "qmp", vm["config"] + "/start"):
        gone = [{"id": name, "state": "absent"} for name in ("a", "b")]
        result = call("qemu_drive", drives=gone, unplug_timeout=300, **vm)
        assert "The VM is paused, and its guest cannot answer: the VM still has it" in result["msg"]
        assert (result["failed"], result["reason"], result["changed"]) == (True, "unplug_pending", True), result
        assert [action.split(" ")[0] for action in result["actions"]] == ["Define", "Unplug"]
        assert open_files(vm["qmp_socket"]) == {"b"}
        assert result["definition"]["drives"] == []


def test_a_snapshot_of_a_vm_that_runs_is_followed_by_its_definition(tmp_path: Path, vm: dict[str, Any]) -> None:
    four_beats(drives=[disk(tmp_path, "a")], **vm)
    with started(tmp_path / "qmp", vm["config"] + "/start"):
        taken = {
            "kind": "external",
            "switch": "none",
            "overlay": str(tmp_path / "over"),
            "qmp_socket": vm["qmp_socket"],
        }
        done = call("image_snapshot", image=str(tmp_path / "a"), format="qcow2", name="s1", **taken)
        assert done.get("snapshot", {}).get("active") == str(tmp_path / "over"), done["msg"]
        told = call("qemu_drive", **vm)
        assert not told["changed"] and "Set image.path to the active overlay before the next" in str(told["warnings"])
        assert [(each["drive"], each["what"]) for each in told["live"]["needs_restart"]] == [("a", "image")]
        named = dict(disk(tmp_path, "a"), image={"path": str(tmp_path / "over"), "format": "qcow2"})
        real = four_beats(drives=[named], **vm)
        assert (real["live"]["needs_restart"], real["live"]["drift"], "warnings" in real) == ([], [], False), real
    with started(tmp_path / "qmp", vm["config"] + "/start"):
        assert open_files(vm["qmp_socket"]) == {"a", "over"}
        settled(**vm)


def test_empty_drives_of_the_machine_itself_are_not_undeclared(tmp_path: Path, vm: dict[str, Any]) -> None:
    four_beats(drives=[disk(tmp_path, "a")], **vm)
    with running(
        vm["config"] + "/start", "-S", "-display", "none", "-qmp", f"unix:{tmp_path / 'qmp'},server=on,wait=off"
    ) as qemu:
        wait_for_monitor(qemu, tmp_path / "qmp")
        (tmp_path / "qmp").chmod(0o600)
        known = call("qemu_drive_info", **{key: vm[key] for key in ("config", "qmp_socket")})["live"]
        # QEMU 7.2 has sd0, too
        assert "floppy0" in {each["id"] for each in known["drives"]} and known["undeclared"] == []


def test_a_socket_of_others_is_refused(tmp_path: Path, vm: dict[str, Any]) -> None:
    four_beats(drives=[disk(tmp_path, "a")], **vm)
    with started(tmp_path / "qmp", vm["config"] + "/start"):
        os.chown(vm["qmp_socket"], 65533, -1)
        result = call("qemu_drive", drives=[disk(tmp_path, "b")], **vm)
        assert (result["reason"], result["changed"]) == ("unsafe_qmp_socket", False), result


def test_tasks_of_other_vms_do_not_wait_for_a_guest(
    tmp_path: Path, vm: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    free: list[str] = []
    change = live.change

    def look_at_locks(*told: Any) -> Any:
        for path in (places.registry(), places.record("web1"), vm["config"]):
            with contextlib.suppress(errors.RefusedError), locks.ImageLocks([path], timeout=0):
                free.append(path)
        return change(*told)

    monkeypatch.setattr(live, "change", look_at_locks)
    four_beats(drives=[disk(tmp_path, "a")], **vm)
    with started(tmp_path / "qmp", vm["config"] + "/start"):
        four_beats(drives=[disk(tmp_path, "b")], **vm)
        assert open_files(vm["qmp_socket"]) == {"a", "b"}
    assert free == [places.registry()]
