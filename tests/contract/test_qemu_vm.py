"""The process of a VM as state, with a real QEMU whose guest is one sector: started, asked to power down, and what is between."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._power import observe, places, watched
from ansible_collections.platter.qemu.plugins.module_utils._tools import processes, start_check, supervise, supervised
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp
from ansible_collections.platter.qemu.plugins.module_utils._vm import places as vm_places
from ansible_collections.platter.qemu.tests.lab import power
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused
from ansible_collections.platter.qemu.tests.lab.closing import nobodys_listener
from ansible_collections.platter.qemu.tests.lab.led import led, place_of_roots
from ansible_collections.platter.qemu.tests.lab.loops import HAVE_LOOPS, attached, mounted
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared, process
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE, listens, running, wait_until


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The links to all VMs, of this test only."""
    (tmp_path / "vms").mkdir()
    monkeypatch.setattr(vm_places, "registry", lambda: str(tmp_path / "registry"))


@pytest.fixture
def vm(tmp_path: Path) -> Iterator[power.Vm]:
    """Whose guest hears the power button."""
    with power.defined(tmp_path) as made:
        yield made


@pytest.fixture
def deaf(tmp_path: Path) -> Iterator[power.Vm]:
    """Whose guest, SeaBIOS with nothing to boot, does not."""
    with power.defined(tmp_path, None) as made:
        yield made


def beats(vm: power.Vm, state: str, **more: Any) -> dict[str, Any]:
    return four_beats(**{**vm.told, "state": state, **more})


def status(vm: power.Vm) -> str:
    """Of the guest, as QEMU has it."""
    with Qmp.connect(vm.socket, DEADLINE) as qmp:
        return str(qmp.execute("query-status")["status"])


def hears(vm: power.Vm) -> None:
    """Wait until the guest has switched its power button on (port 0x602), which takes a moment after the start of QEMU."""
    asked = {"command-line": "i /h 0x602"}
    with Qmp.connect(vm.socket, DEADLINE) as qmp:
        wait_until(lambda: "0x0100" in qmp.execute("human-monitor-command", asked), "the guest has booted")


def test_it_runs_or_it_does_not(vm: power.Vm) -> None:
    result = beats(vm, "started")
    assert result["actions"][1:] == [f"Start VM {vm.name}, supervised by process."]
    facts = result["vm"]
    assert (facts["state"], facts["supervisor"], facts["pid"]) == ("started", "process", vm.qemu())
    assert facts["needs_restart"] is False and facts["qmp_socket"] == vm.socket
    assert os.stat(vm.socket).st_mode & 0o077 == 0 and status(vm) == "running"
    assert Path(f"/proc/{vm.qemu()}/oom_score_adj").read_text() == "0\n"
    stopped = beats(vm, "stopped")
    assert stopped["vm"]["state"] == "stopped" and not vm.processes() and not os.path.lexists(vm.socket)
    beats(vm, "started")
    beats(vm, "absent")
    assert not vm.leftovers() and os.path.exists(vm.config + "/start")


def test_nothing_listens_that_nobody_asked_for(vm: power.Vm) -> None:
    vm.prepared("started")
    told = subprocess.run(["ss", "-Hlnxtup"], capture_output=True, text=True, check=True, timeout=DEADLINE).stdout
    assert [line.split()[4] for line in told.splitlines() if f"pid={vm.qemu()}," in line] == [vm.socket]


def test_one_that_crashes_is_started_again_and_one_that_ends_is_not(vm: power.Vm) -> None:
    vm.prepared("started")
    before = vm.qemu()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: vm.qemus() not in ([], [before]) and listens(vm.socket), "it is back")
    again = vm.call("started")
    assert (again["changed"], again["vm"]["pid"] != before) == (False, True)
    with Qmp.connect(vm.socket, DEADLINE) as qmp:
        qmp.execute("quit")
    wait_until(lambda: not vm.processes(), "the supervisor has ended with it")
    assert beats(vm, "started")["actions"] == [f"Start VM {vm.name}, supervised by process."]


def test_a_guest_that_ends_by_itself_stays_off(tmp_path: Path) -> None:
    with power.defined(tmp_path, power.ENDS) as vm:
        vm.prepared("started")
        wait_until(lambda: not vm.processes(), "the guest has powered itself off")
        assert vm.call("stopped")["changed"] is False


def test_a_guest_that_hears_nothing_goes_on_until_qemu_may_be_told(deaf: power.Vm) -> None:
    deaf.prepared("started")
    pid = deaf.qemu()
    result = deaf.call("stopped", stop_timeout=1)
    assert (result["reason"], result["changed"]) == ("stop_timeout", False)
    assert result["evidence"] == {"pids": [pid], "run_state": "running"}
    assert "allow_power_off" in result["msg"] and result["msg"].endswith("State now: the VM runs.")
    assert result["vm"]["state"] == "started" and deaf.qemu() == pid and deaf.supervisor()
    assert not beats(deaf, "stopped", stop_timeout=1, allow_power_off=True)["vm"].get("pid")
    assert not deaf.processes()


def test_a_paused_guest_is_told_of(vm: power.Vm) -> None:
    vm.define("-S")
    vm.prepared("started")
    result = vm.call("stopped", stop_timeout=1)
    assert result["reason"] == "stop_timeout" and "it is prelaunch, and so it hears nothing" in result["msg"]


def test_one_that_has_powered_down_and_waits_is_ended(vm: power.Vm) -> None:
    vm.define("-no-shutdown")
    vm.prepared("started")
    hears(vm)
    with Qmp.connect(vm.socket, DEADLINE) as qmp:
        qmp.execute("system_powerdown")
    wait_until(lambda: status(vm) == "shutdown", "the guest has powered down")
    assert not vm.call("stopped", stop_timeout=120).get("failed") and not vm.processes()


def test_one_that_speaks_with_another_is_told_all_the_same(vm: power.Vm) -> None:
    """A monitor has one client at a time."""
    vm.prepared("started")
    with Qmp.connect(vm.socket, DEADLINE):
        assert vm.call("stopped", stop_timeout=1, allow_power_off=True)["changed"]
    assert not vm.processes()


@pytest.mark.parametrize("wrong", [["-cpu", "moon"], ["-nosuch"]])
def test_what_does_not_start_leaves_nothing_running(vm: power.Vm, wrong: list[str]) -> None:
    vm.define(*wrong)
    result = vm.call("started")
    assert (result["reason"], result["vm"]["state"]) == ("start_failed", "stopped"), result
    assert wrong[-1].strip("-") in result["msg"] and result["msg"].startswith("failed at: Start VM")
    assert not vm.processes()


def test_what_does_not_answer_is_ended(vm: power.Vm, tmp_path: Path) -> None:
    program = tmp_path / "qemu-system-still"
    program.write_text("#!/bin/sh\necho the moon is wrong >&2\nexec sleep 1000\n")
    program.chmod(0o755)
    prepared("qemu_drive", vm=vm.name, config=vm.config, qemu=str(program), validate="none")
    for seconds in (2, 10, 60):  # until it has come as far as to say so, on a busy machine
        result = vm.call("started", start_timeout=seconds)
        assert result["reason"] == "start_failed" and f"did not answer within {seconds} s" in result["msg"], result
        if "the moon is wrong" in result["msg"]:
            break
    assert f"did not answer within {seconds} s: the moon is wrong" in result["msg"]
    assert not watched.now(vm.name, vm.name).servers and not vm.processes()


def test_what_changes_meanwhile_counts_from_the_next_start(vm: power.Vm) -> None:
    vm.prepared("started")
    pid = vm.qemu()
    vm.define("-boot", "strict=on")
    again = vm.call("started")
    assert (again["changed"], again["vm"]["needs_restart"], vm.qemu()) == (False, True, pid)
    vm.prepared("stopped")
    assert vm.call("started")["vm"]["needs_restart"] is False
    assert b"strict=on" in Path(f"/proc/{vm.qemu()}/cmdline").read_bytes()


def test_a_monitor_of_its_own_is_enough(vm: power.Vm) -> None:
    vm.define("-chardev", f"socket,id=m,path={vm.socket},server=on,wait=off", "-mon", "chardev=m,mode=control")
    assert beats(vm, "started")["vm"]["needs_restart"] is False
    assert b"-qmp" not in Path(f"/proc/{vm.qemu()}/cmdline").read_bytes().split(b"\0")
    beats(vm, "stopped")


def test_one_that_somebody_else_has_started_is_left_alone(vm: power.Vm) -> None:
    with running(vm.config + "/start", "-S", "-display", "none") as other:
        wait_until(lambda: b"-name" in Path(f"/proc/{other.pid}/cmdline").read_bytes(), "the shell has become QEMU")
        for state in ("started", "stopped", "absent"):
            result = refused("already_running", **vm.told, state=state)
            assert (result["evidence"]["pids"], result["evidence"]["qmp_sockets"]) == ([other.pid], [])
            assert result["evidence"]["command_lines"] == [list(processes.command_line(other.pid))]
        assert other.poll() is None and f"let QEMU quit (kill {other.pid})" in result["msg"]
        other.terminate()
        other.wait(DEADLINE)
        assert vm.call("stopped")["changed"] is False


def test_one_that_has_lost_its_supervisor_gets_another(vm: power.Vm) -> None:
    vm.prepared("started")
    pid, first = vm.qemu(), vm.supervisor()
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: first not in vm.processes(), "it has ended")
    result = beats(vm, "started")
    assert result["actions"] == [f"Supervise the running VM {vm.name} again."]
    assert (vm.qemu(), vm.supervisor() != first) == (pid, True)
    beats(vm, "stopped")
    assert not vm.processes()


@pytest.mark.parametrize("called", [[], ["-name", "another"], ["-name", "debug-threads=on"]], ids=" ".join)
def test_one_without_supervisor_is_stopped_like_any_other(vm: power.Vm, called: list[str]) -> None:
    # a QEMU of another run of this test that is called so would be taken for it
    vm.define(*(word.replace("another", f"another-than-{vm.name}") for word in called))
    assert vm.call("started")["changed"]
    supervisor = vm.supervisor()
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: supervisor not in vm.processes(), "it has ended")
    beats(vm, "absent")
    assert not vm.leftovers()


def test_what_is_not_defined_is_not_started(vm: power.Vm, tmp_path: Path) -> None:
    other = str(tmp_path / "vms" / "none")
    result = refused("definition_missing", **dict(vm.told, config=other))
    assert result["evidence"] == {"config": other, "elsewhere": vm.config}
    refused("name_taken", **dict(vm.told, vm="db1"))
    vm.define("-daemonize")
    refused("definition_unfit", **vm.told)
    vm.define()
    Path(vm.config, "start").write_text("#!/bin/sh\nexec true\n")
    refused("definition_altered", **vm.told)


def test_a_refusal_before_all_is_read_says_whether_it_runs(vm: power.Vm, tmp_path: Path) -> None:
    elsewhere = dict(vm.told, config=str(tmp_path / "vms" / "none"))
    assert refused("definition_missing", **elsewhere)["vm"] == {"vm": vm.name, "state": "absent"}
    for state in ("started", "stopped"):
        vm.call(state)
        told = refused("definition_missing", **elsewhere)["vm"]
        assert (told["state"], told["config"]) == (state, vm.config)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who can give files to others")
def test_an_image_that_leads_elsewhere_since_it_was_defined_is_not_opened(vm: power.Vm) -> None:
    with place_of_roots() as place:
        image = create(place / "disk", "qcow2", "1M")
        drive = {"id": "more", "image": {"path": str(image), "format": "qcow2"}, "device": "virtio-blk-pci"}
        prepared("qemu_drive", vm=vm.name, config=vm.config, drives=[drive], validate="none")
        led(image, place / "secret")
        refusal = refused("image_references_file", **vm.told)
        assert refusal["evidence"]["file"] == str(place / "secret") and not vm.processes()
        image.unlink()
        create(image, "qcow2", "1M")
        assert vm.call("started")["changed"]
        # and not by what starts it again, or with the host
        image.unlink()
        led(image, place / "secret")
        os.kill(vm.qemu(), signal.SIGKILL)
        log = Path(supervised.log_file(places.directory_of(vm.name)))
        fact = f"VM {vm.name} is not started: drive more ({image}): it names {place / 'secret'} as its backing file"
        wait_until(lambda: fact in log.read_text(), "it is asked before it is started again")
        assert not any(Path(f"/proc/{pid}/exe").resolve().name.startswith("qemu") for pid in vm.processes())
        image.unlink()
        create(image, "qcow2", "1M")
        assert vm.call("started")["vm"]["state"] == "started"


@pytest.mark.skipif(not HAVE_LOOPS, reason="needs root and loop devices")
def test_a_device_that_the_host_has_mounted_since_is_not_started_with(vm: power.Vm, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    with attached(create(tmp_path / "disk", "raw", "8M")) as device:
        drive = {"id": "more", "image": {"path": device, "format": "raw"}, "device": "virtio-blk-pci"}
        prepared("qemu_drive", vm=vm.name, config=vm.config, drives=[drive], validate="none")
        subprocess.run(["mke2fs", "-q", device], check=True)
        with mounted(device, tmp_path / "mnt"):
            refusal = refused("image_in_use", **vm.told)
            using = [each["name"] for each in refusal["evidence"]["in_use_by"] if each["kind"] != "process"]
            assert using == [str(tmp_path / "mnt")]  # another test may look at all loop devices just now
            # and not by what starts it again, or with the host
            told = subprocess.run([vm.config + "/start", "-version"], check=False, capture_output=True, text=True)
            fact = f"VM {vm.name} is not started: the host itself has {device} (mounted, "
            assert (told.returncode, told.stdout) == (1, "") and fact in told.stderr, told
        assert vm.call("started")["changed"]
        vm.prepared("stopped")


@pytest.mark.skipif(not HAVE_LOOPS, reason="needs root and loop devices")
def test_a_moment_in_which_another_start_looks_at_a_shared_device_is_waited_for(tmp_path: Path) -> None:
    with attached(create(tmp_path / "disk", "raw", "8M")) as device:
        claimed = os.open(device, os.O_RDONLY | os.O_EXCL)
        threading.Timer(0.3, os.close, (claimed,)).start()
        assert not start_check.is_claimed(device)


def test_a_place_where_others_can_meddle_is_none(vm: power.Vm, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    refused("unsafe_directory", **vm.told, qmp_socket=str(shared / "x"))
    refused("directory_missing", **vm.told, qmp_socket=str(tmp_path / "none" / "x"))
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "taken"))
        other.listen()
        refused("socket_in_use", **vm.told, qmp_socket=str(tmp_path / "taken"))
    vm.prepared("started")
    os.chmod(vm.socket, 0o666)
    refused("unsafe_qmp_socket", **vm.told, state="stopped")


def test_the_monitor_of_a_qemu_that_was_killed_just_now_is_waited_for(
    vm: power.Vm, monkeypatch: pytest.MonkeyPatch
) -> None:
    with nobodys_listener(vm.socket):
        assert call("qemu_vm", **vm.told)["reason"] == "socket_in_use"
    os.unlink(vm.socket)
    monkeypatch.setattr(observe, "CLOSING_SECONDS", DEADLINE)
    with nobodys_listener(vm.socket, 0.3):
        prepared("qemu_vm", **vm.told)


def test_what_is_no_socket_is_not_taken_for_one_that_was_left(vm: power.Vm, tmp_path: Path) -> None:
    image = tmp_path / "disk.qcow2"
    image.write_bytes(b"data")
    refused("socket_in_use", **vm.told, qmp_socket=str(image))
    assert not supervise.free_socket(str(image)), "what supervises a VM or an export removes no file either"
    assert image.read_bytes() == b"data"


def test_many_are_started_and_stopped_side_by_side(tmp_path: Path) -> None:
    with power.defined(tmp_path) as one, power.defined(tmp_path) as two:
        entries = [{"vm": each.name, "config": each.config} for each in (one, two)]
        told = {"vms": entries, "start_timeout": 120}
        assert [each["vm"]["state"] for each in four_beats(**told, state="started")["vms"]] == ["started", "started"]
        two.define("-nosuch")
        two.call("stopped")
        result = call("qemu_vm", **told, state="started")
        assert (result["reason"], result["vms"][0]["changed"]) == ("start_failed", False) and one.qemu()
        refused("duplicate_item", vms=entries[:1] * 2, start_timeout=120)
        four_beats(**told, state="absent")
        assert not one.leftovers() + two.leftovers()


@pytest.mark.parametrize("state", ["started", "absent"])
def test_a_run_that_is_killed_is_finished_by_the_next(vm: power.Vm, state: str) -> None:
    """At moments from the begin of its work on: how long that takes is measured first."""

    def before() -> None:
        told = vm.call("absent" if state == "started" else "started")
        assert not told.get("failed"), told

    before()
    begin = time.monotonic()
    vm.call(state)
    seconds = time.monotonic() - begin
    for part in (0.2, 0.7):
        before()
        module = process("qemu_vm", **{**vm.told, "state": state})
        try:
            module.wait(1.0 + part * seconds)  # a second for Python
        except subprocess.TimeoutExpired:
            module.kill()
        module.communicate()
        result = vm.call(state)
        assert not result.get("failed"), (part, result)
        assert result["vm"]["state"] == state
        expected = 2 if state == "started" else 0
        wait_until(lambda: len(vm.processes()) == expected, f"killed at {part}, then {state}")  # noqa: B023
    assert json.dumps(vm.call(state)["actions"]) == "[]"


def test_what_was_left_half_declared_goes(vm: power.Vm) -> None:
    places.make_directory(vm.name)
    beats(vm, "started")
    beats(vm, "stopped")
    os.unlink(places.definition_file(vm.name))
    beats(vm, "absent")
    assert not vm.leftovers()
