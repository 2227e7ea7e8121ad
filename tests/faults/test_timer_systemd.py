"""Snapshots by a timer of a real systemd, in a guest: minutes, as nothing there is quick."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.tests.lab.guest_modules import ask
from ansible_collections.platter.qemu.tests.lab.systemd_guest import SystemdGuest, make_disk, running_systemd

pytestmark = [pytest.mark.soak, pytest.mark.xdist_group("systemd")]
IMAGE = "/disk/images/a.qcow2"
TAKE = {"image": IMAGE, "format": "qcow2", "name": "often-%Y%m%d-%H%M%S"}
PRUNE = {"image": IMAGE, "format": "qcow2", "state": "pruned", "match": "often-*", "retention": {"keep_last": 2}}
TIMER = "platter-snapshots-web1.timer"
SERVICE = "platter-snapshots-web1.service"
OFTEN = {"name": "web1", "on_calendar": "*:*:0/5", "snapshots": [TAKE, PRUNE]}
YEARLY = {**OFTEN, "on_calendar": "yearly"}
DIRECTORY = "/var/lib/platter/snapshots/web1"


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemdGuest]:
    directory = tmp_path_factory.mktemp("disk")
    for name in ("units", "images", "lib"):
        (directory / "content" / name).mkdir(parents=True)
    disk = make_disk(directory / "disk.raw", directory / "content")
    where: Path = tmp_path_factory.mktemp("guest") / "first"
    with running_systemd(where, disk, modules=("snapshot_timer", "md_keeper")) as found:
        found.run(f"qemu-img create -q -f qcow2 {IMAGE} 8M")
        yield found


def call(guest: SystemdGuest, *, check: bool = False, **options: Any) -> dict[str, Any]:
    """The result of the module, which must be no failure."""
    told = ask(guest, "snapshot_timer", check=check, **{"lock_timeout": 120, **options})
    assert not told.get("failed"), told["msg"]
    return told


def beats(guest: SystemdGuest, **options: Any) -> dict[str, Any]:
    checked, real = (call(guest, check=check, **options) for check in (True, False))
    assert checked["changed"] and real["changed"] and checked["actions"] == real["actions"]
    for check in (False, True):
        again = call(guest, check=check, **options)
        assert (again["changed"], again["actions"]) == (False, [])
    return real


def show(guest: SystemdGuest, unit: str, *properties: str) -> list[str]:
    told = guest.run(f"systemctl show -p {','.join(properties)} -- {unit}").splitlines()
    values = dict(line.split("=", 1) for line in told)
    return [values[each] for each in properties]


def runs(guest: SystemdGuest) -> int:
    """How many have taken a snapshot, by the journal."""
    return guest.run(f"journalctl --no-pager --output=cat --unit={SERVICE}").count(": Take snapshot often-")


def is_due_in_a_new_year(guest: SystemdGuest) -> bool:
    return "-01-01 " in show(guest, TIMER, "NextElapseUSecRealtime")[0]


def points(guest: SystemdGuest) -> list[str]:
    lines = guest.run(f"qemu-img snapshot -l -U {IMAGE}").splitlines()
    return [line.split()[1] for line in lines if "often-" in line]


def test_a_timer_fires_and_the_retention_holds(guest: SystemdGuest) -> None:
    result = beats(guest, **OFTEN)
    assert result["actions"] == ["Write the timer of snapshots web1.", "Start the timer of snapshots web1."]
    assert show(guest, TIMER, "ActiveState", "UnitFileState", "NeedDaemonReload") == ["active", "enabled", "no"]
    guest.wait(lambda: runs(guest) >= 3, "it has fired three times", 400)
    told = call(guest, **YEARLY)  # it waits for a run that goes on
    assert told["actions"] == result["actions"] and told["timer"]["active"]
    assert show(guest, TIMER, "ActiveState", "NeedDaemonReload") == ["active", "no"]
    guest.wait(lambda: is_due_in_a_new_year(guest), "a run that had begun meanwhile has ended", 120)
    before = runs(guest)
    passed = {**OFTEN, "on_calendar": guest.run("date -u +'%H:%M:%S UTC'").strip()}
    call(guest, **passed)
    guest.wait(lambda: runs(guest) == before + 1, "a time that has passed since the last run is made up for", 120)
    last = call(guest, **passed)["timer"]["last_run"]
    assert (last["failed"], last["changed"]) == (False, True) and last["ended"]
    assert len(points(guest)) == 2
    assert set(guest.run(f"stat -c %a {DIRECTORY}/*").split()) == {"600"}
    assert guest.run(f"stat -c %a {DIRECTORY}; qemu-img check -q {IMAGE}") == "700\n"
    beats(guest, name="web1", state="absent")
    assert show(guest, TIMER, "LoadState") == show(guest, SERVICE, "LoadState") == ["not-found"]
    left = guest.run("ls /etc/systemd/system/ /etc/systemd/system/timers.target.wants /var/lib/systemd/timers; true")
    assert "platter-snapshots" not in left and not guest.run("ls /var/lib/platter/snapshots")
    assert len(points(guest)) == 2


def test_what_is_refused_fails_the_unit_and_nothing_else(guest: SystemdGuest) -> None:
    options = {"name": "web1", "on_calendar": "yearly", "snapshots": [dict(TAKE, image="/disk/images/none"), TAKE]}
    call(guest, **options)
    before = points(guest)
    guest.run(f"! systemctl start {SERVICE}")
    assert show(guest, SERVICE, "ActiveState", "Result") == ["failed", "exit-code"]
    timer = call(guest, **options)["timer"]
    last = timer["last_run"]
    assert [each.get("reason") for each in last["snapshots"]] == ["image_missing", None] and timer["run_failed"]
    assert len(points(guest)) == len(before) + 1
    call(guest, name="web1", state="absent")
    assert show(guest, SERVICE, "LoadState", "ActiveState") == ["not-found", "inactive"]


def test_what_is_no_time_is_refused_in_check_mode_too(guest: SystemdGuest) -> None:
    for check, when, why in (
        (True, "now and then", "systemd says"),
        (False, "now and then", "systemd says"),
        (True, "2020-01-01", "not any more"),
    ):
        told = ask(guest, "snapshot_timer", check=check, **{**OFTEN, "on_calendar": when})
        assert (told["failed"], told["reason"], told["changed"]) == (True, "bad_option", False)
        assert why in told["msg"]


VM_UNIT = """
[Service]
Type=oneshot
ExecStart=/bin/sh -c "read line </run/go"
"""


def test_at_boot_it_begins_when_vms_have_their_images(guest: SystemdGuest) -> None:
    """A merge of the image of a VM that is about to start would take longer than systemd tries to start it."""
    before = len(points(guest))
    call(guest, **{**YEARLY, "snapshots": [TAKE]})
    wants = "/run/systemd/system/multi-user.target.wants"
    guest.run(f"mkfifo /run/go; mkdir -p {wants}; ln -s ../vm.service {wants}")
    guest.run(f"printf '%s' '{VM_UNIT}' >/run/systemd/system/vm.service; systemctl daemon-reload")
    guest.run("systemctl stop multi-user.target; systemctl start --no-block multi-user.target")
    guest.run(f"systemctl start --no-block {SERVICE}")
    guest.wait(lambda: show(guest, "vm.service", "ActiveState") == ["activating"], "the VM is about to start", 60)
    assert show(guest, SERVICE, "ActiveState") == ["inactive"]
    guest.run("echo >/run/go")
    ended = "ExecMainExitTimestampMonotonic"
    guest.wait(lambda: show(guest, SERVICE, ended) != ["0"], "a run has ended", 120)
    assert (
        int(show(guest, SERVICE, "ExecMainStartTimestampMonotonic")[0]) > int(show(guest, "vm.service", ended)[0]) > 0
    )
    assert len(points(guest)) == before + 1
    guest.run(f"rm {wants}/vm.service /run/systemd/system/vm.service /run/go; systemctl daemon-reload")
    call(guest, name="web1", state="absent")


def test_without_room_for_a_new_one_the_old_timer_goes_on(guest: SystemdGuest) -> None:
    top = "/var/lib/platter/snapshots"
    guest.run(f"mkdir -p {top}; mount -t tmpfs -o size=1m,mode=711 none {top}")
    call(guest, **YEARLY)
    before = guest.run(f"cat {DIRECTORY}/snapshots.json")
    guest.run(f"dd if=/dev/zero of={top}/fill bs=4k 2>/dev/null; true")
    told = ask(guest, "snapshot_timer", **{**YEARLY, "snapshots": [TAKE]})
    assert told["failed"] and "No space left" in told["msg"], told
    assert show(guest, TIMER, "ActiveState") == ["active"]
    assert guest.run(f"cat {DIRECTORY}/snapshots.json") == before
    guest.run(f"rm {top}/fill")
    call(guest, name="web1", state="absent")
    guest.run(f"umount {top}")


def kill_at(guest: SystemdGuest, word: str, module: str, **options: Any) -> None:
    """The module is killed as it is about to tell systemd this."""
    guest.run("mkdir -p /run/killing")
    script = f'#!/bin/sh\n[ "$1" != {word} ] || kill -9 $PPID\nexec /usr/bin/systemctl "$@"\n'
    guest.run(f"printf '%s' {shlex.quote(script)} >/run/killing/systemctl; chmod 755 /run/killing/systemctl")
    path = {"PATH": "/run/killing:/usr/sbin:/usr/bin:/sbin:/bin"}
    assert ask(guest, module, environment=path, killed_after=300, **options) == {}


def test_a_timer_waits_on_while_it_is_written_anew_and_after_a_killed_run_the_next_one_settles_it(
    guest: SystemdGuest,
) -> None:
    hourly = {**YEARLY, "on_calendar": "hourly"}
    call(guest, **hourly)
    since = show(guest, TIMER, "ActiveEnterTimestampMonotonic")
    kill_at(guest, "daemon-reload", "snapshot_timer", lock_timeout=120, **YEARLY)
    assert show(guest, TIMER, "ActiveState", "NeedDaemonReload") == ["active", "yes"]
    assert not is_due_in_a_new_year(guest)
    assert beats(guest, **YEARLY)["actions"] == ["Start the timer of snapshots web1."]
    assert is_due_in_a_new_year(guest)
    call(guest, **hourly)
    assert not is_due_in_a_new_year(guest)
    assert show(guest, TIMER, "ActiveState", "ActiveEnterTimestampMonotonic") == ["active", *since]
    call(guest, name="web1", state="absent")


ARRAY = {
    "name": "data",
    "uuid": "6f9b0c1e-6f0c-4c43-9a5e-0f4b3a0d7c11",
    "legs": [{"name": f"leg{n}", "source": f"nbd://127.0.0.{n}:1/leg"} for n in (1, 2)],
    "supervisor": "systemd",
}
KEEPER = "platter-array-data.service"


@pytest.mark.parametrize("word", ["daemon-reload", "restart"])
def test_a_keeper_runs_on_until_another_is_written_and_after_a_killed_run_the_next_one_starts_that(
    guest: SystemdGuest, word: str
) -> None:
    start = ["Start the keeper of array data."]
    assert ask(guest, "md_keeper", **ARRAY)["actions"][1:] == start
    before = show(guest, KEEPER, "MainPID", "ActiveState")
    kill_at(guest, word, "md_keeper", **ARRAY, interval=7)
    assert show(guest, KEEPER, "MainPID", "ActiveState") == before
    assert ask(guest, "md_keeper", **ARRAY, interval=7)["actions"] == start
    assert show(guest, KEEPER, "ActiveState", "NeedDaemonReload") == ["active", "no"]
    assert show(guest, KEEPER, "MainPID") != before[:1]
    assert not ask(guest, "md_keeper", **ARRAY, interval=7)["changed"]
    assert ask(guest, "md_keeper", name="data", state="absent")["changed"]
    assert show(guest, KEEPER, "LoadState") == ["not-found"]


def test_a_run_that_cannot_begin_is_told(guest: SystemdGuest) -> None:
    options = {**YEARLY, "snapshots": [TAKE]}
    call(guest, **options)
    guest.run(f"systemctl start {SERVICE}")
    well = call(guest, **options)["timer"]
    assert (well["last_run"]["failed"], well["run_failed"]) == (False, False)
    told = f"{DIRECTORY}/snapshots.json"
    guest.run(f"mv {told} {told}.away; ! systemctl start {SERVICE}; mv {told}.away {told}")
    timer = call(guest, **options)["timer"]
    assert (timer["last_run"], timer["run_failed"]) == (well["last_run"], True)
    call(guest, name="web1", state="absent")


@pytest.mark.parametrize("unit", [TIMER, SERVICE])
@pytest.mark.parametrize(
    ("made", "due"),
    [("systemctl mask {}", "unit_masked"), ("printf '[Service]\\n' >/etc/systemd/system/{}", "unit_foreign")],
)
def test_what_others_have_said_of_its_units_stays(guest: SystemdGuest, unit: str, made: str, due: str) -> None:
    guest.run(made.format(unit))
    for options in (OFTEN, {"name": "web1", "state": "absent"}):
        told = ask(guest, "snapshot_timer", **options)
        assert (told["failed"], told["reason"], told["changed"]) == (True, due, False)
    guest.run(f"rm /etc/systemd/system/{unit}; systemctl daemon-reload")
