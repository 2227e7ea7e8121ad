"""What a timer runs, as the host runs it: the file that the module writes, with no Ansible, on real images."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.platter.qemu.plugins.module_utils._module import timer_options
from ansible_collections.platter.qemu.plugins.module_utils._timer import read_spec, settings
from ansible_collections.platter.qemu.plugins.module_utils._tools import locks, systemd
from ansible_collections.platter.qemu.plugins.modules import snapshot_timer
from ansible_collections.platter.qemu.tests.lab.live import holds, sound
from ansible_collections.platter.qemu.tests.lab.machine import machine
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, disk, held, names_in
from ansible_collections.platter.qemu.tests.lab.timers import Timer, take_and_prune

GUIDE = (Path(__file__).parents[2] / "docs/docsite/rst/snapshots.rst").read_text()
MODULE = "platter.qemu.snapshot_timer"


def test_a_stopped_image_gets_a_snapshot_of_that_moment_and_old_ones_go(tmp_path: Path) -> None:
    create(tmp_path / "a.qcow2", "qcow2", "64M")
    for name in ("mine", "nightly-1", "nightly-2"):
        prepared("image_snapshot", image=str(tmp_path / "a.qcow2"), format="qcow2", name=name)
    status, lines, told = Timer(tmp_path / "timer", *take_and_prune(tmp_path / "a.qcow2", 2)).run()
    found = names_in(tmp_path / "a.qcow2")
    assert found[:2] == ["mine", "nightly-2"] and len(found) == 3
    taken = datetime.strptime(found[2], "nightly-%Y%m%d-%H%M%S")
    assert taken.strftime("%Y-%m-%dT%H:%M:%SZ") == told["began"] <= told["ended"]
    assert (status, told["changed"], told["failed"]) == (0, True, False)
    assert lines == [f"{tmp_path}/a.qcow2: {' '.join(each['actions'])}" for each in told["snapshots"]]
    assert [len(each["actions"]) for each in told["snapshots"]] == [1, 1]


def test_the_disks_of_a_running_vm_are_taken_together_and_pruned(tmp_path: Path) -> None:
    images = [create(tmp_path / name, "qcow2", "64M") for name in ("a.qcow2", "b.qcow2")]
    entries = [take_and_prune(image, 1, qmp_socket=str(tmp_path / "qmp")) for image in images]
    timer = Timer(tmp_path / "timer", *(each for pair in entries for each in pair))
    with machine(tmp_path / "qmp", *images) as vm:
        for image in images:
            prepared("image_snapshot", image=str(image), format="qcow2", name="nightly-1", qmp_socket=str(vm.socket))
        vm.write(7, 0)
        status, lines, told = timer.run()
        assert (status, told["failed"], len(lines)) == (0, False, 4), lines
        vm.write(8, 0)
        vm.end()
    left = [names_in(image) for image in images]
    assert left[0] == left[1] and len(left[0]) == 1 and left[0] != ["nightly-1"]
    sound(str(images[0]))
    holds(str(images[0]), (8, 0))
    prepared("image_snapshot", image=str(images[0]), format="qcow2", name=left[0][0], state="reverted", save=False)
    holds(str(images[0]), (7, 0))


def test_one_that_is_in_use_is_refused_and_keeps_all_and_the_other_is_done(tmp_path: Path) -> None:
    used, free = (create(tmp_path / name, "qcow2", "64M") for name in ("used.qcow2", "free.qcow2"))
    prepared("image_snapshot", image=str(used), format="qcow2", name="nightly-1")
    prepared("image_snapshot", image=str(used), format="qcow2", name="nightly-2")
    timer = Timer(tmp_path / "timer", *take_and_prune(used, 1), *take_and_prune(free, 1))
    with machine(tmp_path / "qmp", used):
        status, lines, told = timer.run()
    assert (status, told["failed"], told["changed"]) == (1, True, True)
    by_image = {(each["image"], each["state"]): each for each in told["snapshots"]}
    assert by_image[str(used), "present"]["reason"] == "image_in_use"
    assert by_image[str(used), "pruned"]["skipped_reason"] == "needs_failed"
    assert lines[0].startswith(f"{used}: refused: ") and len(lines) == 4
    assert (names_in(used), len(names_in(free))) == (["nightly-1", "nightly-2"], 1)
    status, lines, told = timer.run()  # free again
    assert (status, told["failed"]) == (0, False) and len(names_in(used)) == 1, lines


def test_one_that_another_run_works_on_keeps_no_other_waiting_for_ever(tmp_path: Path) -> None:
    busy, free = (create(tmp_path / name, "qcow2", "64M") for name in ("busy.qcow2", "free.qcow2"))
    timer = Timer(tmp_path / "timer", *take_and_prune(busy, 1), *take_and_prune(free, 1))
    with locks.ImageLocks([str(busy)]):
        status, _lines, told = timer.run()
    assert (status, [each.get("reason") for each in told["snapshots"]]) == (1, ["lock_timeout", None, None, None])
    assert (names_in(busy), len(names_in(free))) == ([], 1)


def test_by_hand_its_settings_can_be_named_from_where_they_lie(tmp_path: Path) -> None:
    timer = Timer(tmp_path / "timer", *take_and_prune(create(tmp_path / "a.qcow2", "qcow2", "64M"), 1))
    command = [*timer.words[:-1], timer.told.name]
    subprocess.run(command, cwd=timer.told.parent, capture_output=True, check=True)
    assert (timer.status()["failed"], len(names_in(tmp_path / "a.qcow2"))) == (False, 1)


def test_what_is_not_there_yet_is_told_too(tmp_path: Path) -> None:
    status, _lines, told = Timer(tmp_path / "timer", *take_and_prune(tmp_path / "none.qcow2", 1)).run()
    assert (status, told["snapshots"][0]["reason"]) == (1, "image_missing")


@pytest.mark.parametrize(
    ("kind", "call_at"),
    [
        ("internal", "rename:when=2"),
        ("internal", "pwrite64:when=2"),
        ("external", "link:when=1"),
        ("external", "rename:when=2"),
    ],
)
def test_after_a_killed_run_the_next_one_settles_it(tmp_path: Path, kind: str, call_at: str) -> None:
    """The program is killed, or a qemu-img that it has started."""
    one: Disk = disk(tmp_path, kind, "rename" if kind == "external" else "none")
    more = {"kind": kind, "switch": "rename"} if kind == "external" else {"kind": kind}
    timer = Timer(tmp_path / "timer", *take_and_prune(one.image, 1, **more))
    seen = one.now()
    log, name = tmp_path / "log", call_at.partition(":")[0]
    inject = ("-e", f"trace={name}", "-e", f"inject={call_at}:signal=SIGKILL")
    killed = subprocess.run(["strace", "-f", "-qq", "-o", log, *inject, *timer.words], capture_output=True, check=False)
    assert killed.returncode == (1 if name == "pwrite64" else -9), (killed, log.read_text())
    assert (timer.status()["ended"] is None) == (name != "pwrite64")
    status, lines, told = timer.run()
    assert (status, told["failed"]) == (0, False), lines
    assert told["ended"] is not None and len(list(timer.told.parent.iterdir())) == 3
    result = call("image_snapshot", check=True, **one.task(name="no-such", state="absent"))
    assert len(result["snapshot"]["snapshots"]) == 1
    assert held(result["snapshot"]["active"]) == seen


def test_without_systemd_there_is_no_timer(tmp_path: Path) -> None:
    assert not systemd.runs()
    entries = list(take_and_prune(tmp_path / "a.qcow2", 1))
    for check in (True, False):
        told = call("snapshot_timer", check=check, name="test", on_calendar="daily", snapshots=entries)
        assert (told["failed"], told["reason"], told["changed"]) == (True, "supervisor_missing", False)
        assert told["msg"].startswith("refused: state=present of timer test: systemd does not run on this host.")
        told = call("snapshot_timer", check=check, name="test", state="absent")
        assert (told["changed"], told["timer"]) == (False, {"name": "test", "state": "absent", "last_run": None})


def _documented() -> list[dict[str, Any]]:
    blocks = re.findall(r"^\.\. code-block:: yaml\+jinja\n\n((?: {4}.*\n|\n)+)", GUIDE, re.MULTILINE)
    tasks = [task for text in (*blocks, snapshot_timer.EXAMPLES) for task in yaml.safe_load(text)]
    return [task[MODULE] for task in tasks if MODULE in task]


def test_the_documented_options_are_right() -> None:
    assert len(_documented()) == 3
    for options in _documented():
        checked = ArgumentSpecValidator(timer_options.argument_spec()).validate(options)
        assert not checked.error_messages
        spec = read_spec.read_spec(checked.validated_parameters)
        assert spec.state == "absent" or spec.on_calendar.endswith(" UTC")  # summer time begins at 02:30
        asked = json.loads(spec.settings)["snapshots"] if spec.settings else []
        assert len(settings.rounds(asked)) == (2 if asked else 0)
