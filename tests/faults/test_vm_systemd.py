"""VMs as units of a real systemd, in a guest: QEMU in QEMU, so minutes."""

from __future__ import annotations

from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.tests.lab import power
from ansible_collections.platter.qemu.tests.lab.guest_modules import ask
from ansible_collections.platter.qemu.tests.lab.systemd_guest import SystemdGuest, make_disk, running_systemd

pytestmark = [pytest.mark.soak, pytest.mark.xdist_group("systemd")]
UNIT = "platter-vm-web1.service"
TOLD = {"vm": "web1", "start_timeout": 120, "stop_timeout": 120, "supervisor": "auto"}


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemdGuest]:
    directory = tmp_path_factory.mktemp("disk")
    for name in ("units", "images", "lib"):
        (directory / "content" / name).mkdir(parents=True)
    for name, sector in {"hears": power.HEARS, "ends": power.ENDS, "deaf": bytes(512)}.items():
        (directory / "content" / "images" / name).write_bytes(sector)
    disk = make_disk(directory / "disk.raw", directory / "content")
    with running_systemd(tmp_path_factory.mktemp("guest") / "first", disk, vms=True) as guest:
        yield guest


@pytest.fixture
def guest(booted: SystemdGuest) -> Iterator[SystemdGuest]:
    """With a VM that is defined, and hears its power button."""
    define(booted, "hears")
    yield booted
    call(booted, "absent", stop_timeout=1, allow_power_off=True)
    assert not booted.run("ls /etc/systemd/system | grep vm-web1 || true; pidof qemu-system-x86_64 || true")


def define(guest: SystemdGuest, image: str, *arguments: str) -> None:
    drive = {"id": "disk", "image": {"path": f"/disk/images/{image}", "format": "raw"}, "device": "ide-hd"}
    words = {"arguments": [*power.QUIET, *arguments], "qemu": "/usr/bin/qemu-system-x86_64", "validate": "none"}
    told = ask(guest, "qemu_drive", vm="web1", drives=[drive], **words)
    assert not told.get("failed"), told["msg"]


def call(guest: SystemdGuest, state: str, **more: Any) -> dict[str, Any]:
    """The result of the module, which must be no failure."""
    told = ask(guest, "qemu_vm", **{**TOLD, "state": state, **more})
    assert not told.get("failed"), told["msg"]
    return told


def show(guest: SystemdGuest, *properties: str) -> list[str]:
    told = guest.run(f"systemctl show -p {','.join(properties)} -- {UNIT}").splitlines()
    values = dict(line.split("=", 1) for line in told)
    return [values[each] for each in properties]


def beats(guest: SystemdGuest, state: str, **more: Any) -> dict[str, Any]:
    checked, real = (call(guest, state, check=check, **more) for check in (True, False))
    assert checked["changed"] and real["changed"] and checked["actions"] == real["actions"]
    for check in (False, True):
        again = call(guest, state, check=check, **more)
        assert (again["changed"], again["actions"]) == (False, [])
    return real


def test_a_vm_is_a_unit(guest: SystemdGuest) -> None:
    result = beats(guest, "started")
    facts = result["vm"]
    assert (facts["supervisor"], facts["at_boot"], facts["needs_restart"]) == ("systemd", True, False)
    assert show(guest, "ActiveState", "MainPID", "NeedDaemonReload") == ["active", str(facts["pid"]), "no"]
    assert (
        guest.run("stat -c %a /run/platter/web1.qmp; test -L /etc/systemd/system/multi-user.target.wants/" + UNIT)
        == "600\n"
    )
    assert beats(guest, "stopped")["vm"]["at_boot"] is False
    assert show(guest, "ActiveState", "Result") == ["inactive", "success"]
    beats(guest, "started")
    beats(guest, "absent")
    assert show(guest, "LoadState") == ["not-found"]


def test_one_that_crashes_is_started_again(guest: SystemdGuest) -> None:
    before = call(guest, "started")["vm"]["pid"]
    guest.run(f"kill -KILL {before}")
    guest.wait(lambda: show(guest, "ActiveState", "MainPID")[1] not in ("0", str(before)), "it is back")
    guest.wait(lambda: guest.listens("/run/platter/web1.qmp"), "its monitor is back")
    again = call(guest, "started")
    assert again["changed"] is False and again["vm"]["pid"] != before


def test_a_stopped_unit_has_its_guest_power_down(guest: SystemdGuest) -> None:
    """As when the host is shut down."""
    call(guest, "started")
    guest.run("sleep 10")  # so that the first press is heard; what is not is repeated
    guest.run(f"systemctl stop {UNIT}")
    assert show(guest, "ActiveState", "Result") == ["inactive", "success"]
    assert "terminating on signal" not in guest.run(f"journalctl --no-pager --unit={UNIT}")
    assert call(guest, "started")["actions"] == ["Start VM web1, supervised by systemd."]


def test_a_guest_that_hears_nothing_is_cut_off_with_the_unit(guest: SystemdGuest) -> None:
    define(guest, "deaf")
    call(guest, "started", stop_timeout=3)
    told = ask(guest, "qemu_vm", **{**TOLD, "state": "stopped", "stop_timeout": 2})
    assert told["reason"] == "stop_timeout" and show(guest, "ActiveState") == ["active"]
    guest.run(f"systemctl stop {UNIT}")
    assert show(guest, "ActiveState", "Result") == ["inactive", "success"]
    assert "terminating on signal 15" in guest.run(f"journalctl --no-pager --unit={UNIT}")


def test_a_guest_that_ends_by_itself_stays_off(guest: SystemdGuest) -> None:
    define(guest, "ends")
    call(guest, "started")
    guest.wait(lambda: show(guest, "ActiveState", "NRestarts") == ["inactive", "0"], "the guest has powered itself off")


def test_what_does_not_start_is_told_and_not_tried_again(guest: SystemdGuest) -> None:
    define(guest, "hears", "-nosuch")
    told = ask(guest, "qemu_vm", **{**TOLD, "state": "started"})
    assert told["reason"] == "start_failed" and "nosuch" in told["msg"]
    guest.run("sleep 3; ! pidof qemu-system-x86_64")
    assert show(guest, "ActiveState")[0] in ("failed", "inactive")
