"""Exports as units of a real systemd, in a guest: minutes, as nothing there is quick."""

from __future__ import annotations

import contextlib
import json
import shlex
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._export import unit
from ansible_collections.platter.qemu.tests.lab.initramfs import interpreter
from ansible_collections.platter.qemu.tests.lab.systemd_guest import SystemdGuest, make_disk, running_systemd
from ansible_collections.platter.qemu.tests.lab.tls import USER, psk_file
from ansible_collections.platter.qemu.tests.lab.vm import Disk

pytestmark = [pytest.mark.soak, pytest.mark.xdist_group("systemd")]
IMAGE = "/disk/images/a.qcow2"
ODD = '/disk/images/%n $HOME ${x}; "b" \\ \u00e9.qcow2'
EXPORT = {"name": "web1", "image": IMAGE, "format": "qcow2"}
SOCKET = "/run/platter/web1.sock"
URI = "nbd+unix:///web1?socket=/run/platter/web1.sock"


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    directory = tmp_path_factory.mktemp("disk")
    for name in ("units", "images", "lib"):
        (directory / "content" / name).mkdir(parents=True)
    psk_file(directory / "content" / "keys")
    return make_disk(directory / "disk.raw", directory / "content")


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory, disk: Disk) -> Iterator[SystemdGuest]:
    with running_systemd(tmp_path_factory.mktemp("guest") / "first", disk) as guest:
        yield guest


@pytest.fixture
def guest(booted: SystemdGuest) -> Iterator[SystemdGuest]:
    """With an image whose first MiB holds 0x5a, and no exports."""
    booted.run(f"rm -f /disk/images/*; qemu-img create -q -f qcow2 {IMAGE} 8M")
    booted.run(f"qemu-io -f qcow2 -c 'write -P 0x5a 0 1M' {IMAGE}")
    yield booted
    for path in booted.run("ls /etc/systemd/system").split():
        if path.startswith("platter-storage-"):
            entries = [{"name": f"in-{letter}", "state": "absent"} for letter in "abc"]
            booted.call(exports=entries, allow_disconnect=True)
        if path.startswith("platter-nbd-") and path.endswith(".service"):
            booted.run(f"systemctl kill -s CONT {path} || true; systemctl unmask -q {path}")
            booted.call(name=path[len("platter-nbd-") : -len(".service")], state="absent", allow_disconnect=True)
    assert not booted.run("ls /etc/systemd/system | grep 'service$' || true; ss -Hlx | grep platter || true")


def done(result: dict[str, Any]) -> dict[str, Any]:
    """A result that is no failure."""
    assert not result.get("failed"), result["msg"]
    return result


def four_beats(guest: SystemdGuest, **options: Any) -> dict[str, Any]:
    """Check, real, again, again in check mode."""
    checked, real = (done(guest.call(check=check, **options)) for check in (True, False))
    assert (checked["changed"], real["changed"]) == (True, True), (checked, real)
    assert checked["actions"] == real["actions"]
    for check in (False, True):
        settled(guest, check=check, **options)
    return real


def settled(guest: SystemdGuest, **options: Any) -> dict[str, Any]:
    """Nothing is done."""
    again = done(guest.call(**options))
    assert (again["changed"], again["actions"]) == (False, []), again["actions"]
    return again


def reads(guest: SystemdGuest, uri: str = URI, pattern: str = "0x5a") -> None:
    guest.run(f"qemu-io -r -f raw -c 'read -P {pattern} 0 1M' '{uri}' | grep -q 'read 1048576'")


def systemctl(result: dict[str, Any]) -> list[str]:
    """The verbs of a result."""
    return [command[1] for command in result["commands"] if command[0] == "systemctl"]


def test_an_export_is_a_unit(guest: SystemdGuest) -> None:
    result = four_beats(guest, **EXPORT)
    assert (result["export"]["supervisor"], result["export"]["clients"]) == ("systemd", [])
    assert result["actions"][-1] == "Start qemu_nbd for export web1, supervised by systemd."
    assert guest.show("web1", "ActiveState", "UnitFileState", "NeedDaemonReload") == ["active", "enabled", "no"]
    pid = guest.server_of("web1")
    assert pid == result["export"]["pid"]
    assert guest.run(f"cat /proc/{pid}/oom_score_adj; stat -c %a {SOCKET}") == "-900\n600\n"
    reads(guest)
    assert "Started" in guest.run("journalctl --no-pager --unit=platter-nbd-web1")
    stopped = four_beats(guest, name="web1", state="stopped")
    assert stopped["export"]["state"] == "stopped" and not guest.listens(SOCKET)
    assert guest.show("web1", "ActiveState", "UnitFileState") == ["inactive", "disabled"]
    assert four_beats(guest, **EXPORT)["actions"] == [result["actions"][-1]]
    four_beats(guest, name="web1", state="absent")
    assert guest.show("web1", "LoadState") == ["not-found"]


@pytest.mark.parametrize("read_only", [True, False])
def test_odd_names_stay_names(guest: SystemdGuest, read_only: bool) -> None:
    guest.run(f"mv {IMAGE} {shlex.quote(ODD)}")
    options = {"image": ODD, "format": "qcow2", "description": '%i $x ${x} "', "read_only": read_only}
    result = guest.call(name="Odd.1_-", **options)
    assert done(result)["changed"]
    settled(guest, name="Odd.1_-", **options)
    reads(guest, "nbd+unix:///Odd.1_-?socket=/run/platter/Odd.1_-.sock")


@pytest.mark.parametrize("directory", ["/tmp", "/root/images", "/usr/local", "/dev/shm/images"])
def test_images_are_in_reach_wherever_they_lie(guest: SystemdGuest, directory: str) -> None:
    guest.run(f"mkdir -p {directory}; cp {IMAGE} {directory}/b.qcow2")
    guest.run(f"qemu-img create -q -f qcow2 -b {directory}/b.qcow2 -F qcow2 {IMAGE}.top")
    entries = [
        {"name": "base", "image": f"{directory}/b.qcow2"},
        {"name": "top", "image": IMAGE + ".top", "read_only": False, "socket": f"{directory}/top.sock"},
    ]
    result = guest.call(format="qcow2", exports=entries)
    done(result)
    reads(guest, "nbd+unix:///base?socket=/run/platter/base.sock")
    top = f"nbd+unix:///top?socket={directory}/top.sock"
    reads(guest, top)
    guest.run(f"qemu-io -f raw -c 'write -P 0x66 0 1M' {shlex.quote(top)}")
    done(guest.call(name="top", state="absent"))
    guest.run(f"qemu-io -r -f qcow2 -c 'read -P 0x66 0 1M' {IMAGE}.top | grep -q 'read 1048576'")


def test_a_block_device_can_be_served_and_written_to(guest: SystemdGuest) -> None:
    guest.run(
        "dd if=/dev/zero of=/disk/images/blocks bs=1M count=4 2>/dev/null; losetup /dev/loop0 /disk/images/blocks"
    )
    try:
        result = guest.call(name="web1", image="/dev/loop0", format="raw", read_only=False)
        done(result)
        guest.run(f"qemu-io -f raw -c 'write -P 0x66 0 1M' '{URI}'")
        done(guest.call(name="web1", state="absent"))
        reads(guest, "/disk/images/blocks", "0x66")
    finally:
        guest.run("losetup -d /dev/loop0")


def test_keys_of_clients_are_found(guest: SystemdGuest) -> None:
    guest.run("ip link set lo up; mv /disk/keys/keys.psk /disk/keys/of-web1")
    options = {**EXPORT, "bind": "127.0.0.1", "port": 809, "tls": {"psk_file": "/disk/keys/of-web1"}}
    done(guest.call(**options))
    settled(guest, **options)
    server = {"type": "inet", "host": "127.0.0.1", "port": "809"}
    node = {"driver": "nbd", "export": "web1", "tls-creds": "t", "server": server}
    opened = shlex.quote("json:" + json.dumps({"driver": "raw", "file": node}))
    guest.run("cp -r /disk/keys /run/keys; mv /run/keys/of-web1 /run/keys/keys.psk")
    keys = f"tls-creds-psk,id=t,endpoint=client,dir=/run/keys,username={USER}"
    guest.run(f"qemu-io -r --object {keys} -c 'read -P 0x5a 0 1M' {opened} | grep -q 'read 1048576'")


def test_a_killed_server_is_started_again(guest: SystemdGuest) -> None:
    guest.call(**EXPORT, read_only=False)
    before = guest.server_of("web1")
    guest.run(f"qemu-io -f raw -c 'write -P 0x77 1M 1M' -c flush '{URI}'; kill -9 {before}")
    guest.wait(lambda: guest.server_of("web1") not in (0, before) and guest.listens(SOCKET), "it is started again")
    guest.run(f"qemu-io -r -f raw -c 'read -P 0x77 1M 1M' '{URI}' | grep -q 'read 1048576'")
    settled(guest, **EXPORT, read_only=False)


def test_a_server_that_cannot_start_tells_why_and_is_not_tried_for_ever(guest: SystemdGuest) -> None:
    program = "#!/bin/sh\necho 'qemu-nbd: the moon is wrong' >&2\nexit 1\n"
    guest.run(f"mkdir -p /run/bin; printf %s {shlex.quote(program)} >/run/bin/qemu-nbd; chmod 755 /run/bin/qemu-nbd")
    result = guest.call(**EXPORT, environment={"PATH": "/run/bin:/usr/bin:/usr/sbin:/bin:/sbin"})
    assert result["reason"] == "server_failed" and "the moon is wrong" in result["msg"], result
    guest.wait(lambda: guest.show("web1", "ActiveState")[0] in ("inactive", "failed"), "it is not started again")
    done(guest.call(**EXPORT))
    reads(guest)


def test_many_exports_have_systemd_read_its_units_once(guest: SystemdGuest) -> None:
    entries = [{"name": f"many{number}"} for number in range(6)]
    result = guest.call(image=IMAGE, format="qcow2", exports=entries)
    assert systemctl(result).count("daemon-reload") == 1, result
    again = settled(guest, image=IMAGE, format="qcow2", exports=entries)
    assert systemctl(again) == ["show"]
    pids = [guest.server_of(entry["name"]) for entry in entries]
    with using(guest, "many1"):
        entries[0]["shared"] = 3
        changed = guest.call(image=IMAGE, format="qcow2", exports=entries)
        assert changed["changed"] and not changed.get("failed"), changed
        entries[1]["shared"] = 3
        busy = guest.call(image=IMAGE, format="qcow2", exports=entries)
        assert (busy["reason"], busy["changed"]) == ("export_busy", False)
        assert busy["evidence"]["clients"][0]["comm"] == "qemu-io"
        gone = guest.call(name="many1", state="absent")
        assert gone["reason"] == "export_busy"
    assert [guest.server_of(entry["name"]) for entry in entries][1:] == pids[1:]
    result = guest.call(state="absent", exports=[{"name": entry["name"]} for entry in entries])
    assert systemctl(result).count("daemon-reload") == 1 and not result.get("failed"), result


@contextlib.contextmanager
def using(guest: SystemdGuest, name: str) -> Iterator[None]:
    """A client that stays connected while the block runs."""
    uri = f"nbd+unix:///{name}?socket=/run/platter/{name}.sock"
    guest.run(f"(sleep 600 | qemu-io -r -f raw '{uri}') >/dev/null 2>&1 &")
    guest.wait(lambda: guest.run("ss -Hx | grep -c platter || true").strip() != "0", "it is connected")
    yield
    guest.run("killall sleep")


def test_from_one_supervisor_to_the_other_and_back(guest: SystemdGuest) -> None:
    for supervisor in ("process", "systemd", "process"):
        result = guest.call(**EXPORT, supervisor=supervisor)
        assert done(result)["changed"]
        assert result["export"]["supervisor"] == supervisor
        settled(guest, **EXPORT, supervisor=supervisor)
        reads(guest)
        assert len(guest.run("ps | grep '[q]emu-nbd --pers'").splitlines()) == 1
        exists = guest.run(
            f"ls {unit.unit_file('web1')} {unit.wants_link('web1')} /run/platter/nbd/web1 2>/dev/null || true"
        )
        assert len(exists.split()) == (2 if supervisor == "systemd" else 3), exists
    done(guest.call(name="web1", state="absent"))


def test_what_the_administrator_has_said_is_respected(guest: SystemdGuest) -> None:
    directory = "/etc/systemd/system/platter-nbd-web1.service.d"
    guest.run(f"mkdir {directory}; printf '[Service]\nOOMScoreAdjust=-5\n' >{directory}/mine.conf")
    done(guest.call(**EXPORT))
    assert guest.run(f"cat /proc/{guest.server_of('web1')}/oom_score_adj") == "-5\n"
    settled(guest, **EXPORT)
    guest.run("systemctl disable platter-nbd-web1")
    again = four_beats(guest, **EXPORT)
    assert again["actions"] == ["Supervise the running server of export web1 again."]
    assert guest.show("web1", "UnitFileState") == ["enabled"]
    done(guest.call(name="web1", state="absent"))
    guest.run(f"ls {directory}/mine.conf && rm -r {directory} && systemctl mask platter-nbd-web1")
    assert guest.call(**EXPORT)["reason"] == "unit_masked"
    assert guest.call(name="web1", state="absent")["changed"] is False
    guest.run("systemctl unmask platter-nbd-web1")
    guest.run(f"printf '[Service]\nExecStart=/bin/true\n' >{unit.unit_file('web1')}")
    for state in ("present", "absent"):
        assert guest.call(**EXPORT, state=state)["reason"] == "unit_foreign"
    guest.run(f"rm {unit.unit_file('web1')}; systemctl daemon-reload")


def test_a_socket_of_others_is_not_taken_by_systemd_either(guest: SystemdGuest) -> None:
    guest.call(**EXPORT)
    guest.call(name="web1", state="stopped")
    guest.run(f"cp {IMAGE} {IMAGE}.other; qemu-nbd --fork -r -t -f qcow2 -k {SOCKET} {IMAGE}.other")
    guest.run("! systemctl start platter-nbd-web1")
    assert "another program listens" in guest.run("journalctl --no-pager --unit=platter-nbd-web1")
    assert guest.call(**EXPORT)["reason"] == "socket_in_use"
    reads(guest, f"nbd+unix:///?socket={SOCKET}")
    guest.run("systemctl stop platter-nbd-web1; killall qemu-nbd")


#: holds a process as a debugger does (ptrace(2): PTRACE_SEIZE, PTRACE_INTERRUPT)
HOLD = """
import ctypes, sys, time
for request in (0x4206, 0x4207):
    assert ctypes.CDLL(None).ptrace(request, int(sys.argv[1]), None, None) == 0
print("held", flush=True)
time.sleep(600)
"""


def test_a_writable_server_that_does_not_end_is_not_killed(guest: SystemdGuest) -> None:
    """systemd lets go on what a signal or its freezer has stopped when it ends it. What is held only dies by SIGKILL."""
    done(guest.call(**EXPORT, read_only=False, stop_timeout=2))
    server = guest.server_of("web1")
    holder = f"{interpreter()} -I -S -c {shlex.quote(HOLD)} {server}"
    guest.run(f"{holder} >/run/held 2>&1 & echo $! >/run/holder")
    guest.wait(lambda: guest.run("cat /run/held") == "held\n", "it is held")
    result = guest.call(name="web1", state="absent", stop_timeout=1)
    assert result.get("reason") == "stop_timeout" and server in result["evidence"]["pids"], result
    guest.wait(lambda: guest.show("web1", "ActiveState") == ["failed"], "systemd gives up", 60)
    assert guest.run(f"ls -d /proc/{server}") == f"/proc/{server}\n"
    guest.run("kill $(cat /run/holder)")
    done(guest.call(name="web1", state="absent"))


def test_a_stop_right_after_a_start_leaves_no_listener(guest: SystemdGuest) -> None:
    """From before the server is there until it serves. Seconds of the guest."""
    guest.call(**EXPORT, read_only=False)
    guest.call(name="web1", state="stopped")
    for milliseconds in range(0, 650, 50):
        guest.run(
            f"systemctl start --no-block platter-nbd-web1; usleep {milliseconds}000; systemctl stop platter-nbd-web1",
            120,
        )
        assert not guest.listens(SOCKET), milliseconds
        assert guest.show("web1", "ActiveState") in (["inactive"], ["failed"]), milliseconds
        assert not guest.run("ps | grep '[q]emu-nbd --pers' || true")


def lots(*letters: str, **more: Any) -> dict[str, Any]:
    """A task with exports of a storage daemon."""
    entries = [{"name": f"in-{letter}", "image": f"/disk/images/{letter}.qcow2"} for letter in letters]
    return {"format": "qcow2", "daemon": "lots", "exports": entries, **more}


def in_lots(letter: str) -> str:
    return f"nbd+unix:///in-{letter}?socket=/run/platter/lots.sock"


def test_a_storage_daemon_is_a_unit(guest: SystemdGuest) -> None:
    guest.run(f"for each in a b c; do cp {IMAGE} /disk/images/$each.qcow2; done 2>/dev/null; ls /disk/images/c.qcow2")
    four_beats(guest, **lots("a", "b", read_only=False))
    show = "systemctl show -p ActiveState,UnitFileState,MainPID,NeedDaemonReload --value platter-storage-lots"
    told = guest.run(show).split()
    assert {"active", "enabled", "no"} < set(told), told
    server = next(word for word in told if word.isdigit())
    result = four_beats(guest, **lots("c"))
    assert "daemon-reload" not in systemctl(result) and server in guest.run(show).split()
    guest.run(f"qemu-io -f raw -c 'write -P 0x77 1M 1M' -c flush '{in_lots('a')}'; kill -9 {server}")
    guest.wait(lambda: server not in guest.run(show).split() and guest.listens("/run/platter/lots.sock"), "it is back")
    for letter in "abc":
        guest.wait(lambda letter=letter: _has(guest, in_lots(letter)), "its exports are back")
    guest.run(f"qemu-io -r -f raw -c 'read -P 0x77 1M 1M' '{in_lots('a')}' | grep -q 'read 1048576'")
    settled(guest, **lots("a", "b", read_only=False))
    done(guest.call(exports=[{"name": f"in-{letter}", "state": "absent"} for letter in "abc"]))
    assert guest.run("systemctl show -p LoadState --value platter-storage-lots") == "not-found\n"
    assert not guest.run("ls /var/lib/platter/nbd | grep : || true; ps | grep '[q]emu-storage' || true")


def _has(guest: SystemdGuest, uri: str) -> bool:
    return (
        guest.run(f"qemu-io -r -f raw -c 'read -P 0x5a 0 512' '{uri}' >/dev/null 2>&1 && echo yes || true") == "yes\n"
    )


@pytest.mark.parametrize("cow", [False, True])
def test_nbdkit_is_a_unit(guest: SystemdGuest, cow: bool) -> None:
    guest.run("dd if=/dev/zero of=/disk/images/d.raw bs=1M count=8 2>/dev/null")
    options = {"name": "web1", "image": "/disk/images/d.raw", "format": "raw", "server": "nbdkit"}
    options.update(read_only=False, cow=cow)
    four_beats(guest, **options)
    guest.run(f"qemu-io -f raw -c 'write -P 0x66 0 1M' -c flush '{URI}'")
    assert "lock" in guest.run("qemu-img resize -f raw /disk/images/d.raw 16M 2>&1 || true")
    before = guest.server_of("web1")
    guest.run(f"kill -9 {before}")
    guest.wait(lambda: guest.server_of("web1") not in (0, before) and guest.listens(SOCKET), "it is started again")
    reads(guest, URI, "0" if cow else "0x66")
    settled(guest, **options)
    done(guest.call(name="web1", state="absent"))


def test_after_a_reboot_it_is_served_again(guest: SystemdGuest, disk: Disk, tmp_path: Path) -> None:
    guest.call(**EXPORT)
    guest.call(**dict(EXPORT, name="web2"))
    guest.call(name="web2", state="stopped")
    guest.run(f"cp {IMAGE} /disk/images/b.qcow2; cp {IMAGE} /disk/images/c.qcow2")
    done(guest.call(**lots("b", "c", read_only=False)))
    done(guest.call(name="in-c", state="stopped"))
    guest.run("sync")
    copy = tmp_path / "disk.raw"
    guest.run("fsfreeze -f /disk 2>/dev/null || sync")
    copy.write_bytes(disk.path.read_bytes())
    guest.run("fsfreeze -u /disk 2>/dev/null || true")
    with running_systemd(tmp_path / "second", Disk(copy, format="raw")) as second:
        second.wait(lambda: second.listens(SOCKET), "it is served", 120)
        reads(second)
        settled(second, **EXPORT)
        second.wait(lambda: _has(second, in_lots("b")), "so is what a storage daemon has")
        settled(second, **lots("b", read_only=False))
        assert not _has(second, in_lots("c"))
        assert second.call(name="web2", state="stopped")["changed"] is False
        assert second.show("web2", "ActiveState") == ["inactive"]
