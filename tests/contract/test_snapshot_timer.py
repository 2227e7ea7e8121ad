"""What a timer runs, as the host runs it: the file that the module writes, with no Ansible, on real images."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.platter.qemu.plugins.module_utils._keeper import places as keeper_places
from ansible_collections.platter.qemu.plugins.module_utils._module import timer_options
from ansible_collections.platter.qemu.plugins.module_utils._timer import places as timer_places
from ansible_collections.platter.qemu.plugins.module_utils._timer import read_spec, settings, take
from ansible_collections.platter.qemu.plugins.module_utils._tools import (
    locks,
    own_places,
    own_programs,
    own_zipapp,
    systemd,
)
from ansible_collections.platter.qemu.plugins.modules import snapshot_timer
from ansible_collections.platter.qemu.tests.lab.live import holds, sound
from ansible_collections.platter.qemu.tests.lab.machine import machine
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE, wait_until
from ansible_collections.platter.qemu.tests.lab.scripted import Peer, serving
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, disk, held, names_in

GUIDE = (Path(__file__).parents[2] / "docs/docsite/rst/snapshots.rst").read_text()
NAME = "nightly-%Y%m%d-%H%M%S"
MODULE = "platter.qemu.snapshot_timer"
Done = tuple[int, list[str], dict[str, Any]]


class Timer:
    """The program and its settings in a directory of the test's."""

    def __init__(self, directory: Path, *entries: dict[str, Any]) -> None:
        directory.mkdir()
        self.told, self.program = directory / "snapshots.json", directory / "snapshots.pyz"
        params = {"name": "test", "on_calendar": "daily", "snapshots": list(entries), "lock_timeout": 1}
        self.told.write_text(read_spec.read_spec(params).settings)
        self.program.write_bytes(own_zipapp.build(take))
        self.words = (*own_programs.words(str(self.program)), str(self.told))

    def status(self) -> dict[str, Any]:
        """What the last run says of itself."""
        return dict(json.loads(self.told.with_name("status.json").read_text()))

    def run(self, *under: str) -> Done:
        """Exit status, lines of the journal, and the status file."""
        done = subprocess.run(
            [*under, *self.words], cwd="/", env={"LC_ALL": "C"}, capture_output=True, text=True, check=False
        )
        assert done.stdout == "" and "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stderr.splitlines(), self.status()


def take_and_prune(image: Path, keep: int, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    one = {"image": str(image), "format": "qcow2", **more}
    pruned = {key: value for key, value in one.items() if key != "switch"}
    return {**one, "name": NAME}, {**pruned, "state": "pruned", "match": "nightly-*", "retention": {"keep_last": keep}}


def test_a_stopped_image_gets_a_snapshot_of_that_moment_and_old_ones_go(tmp_path: Path) -> None:
    create(tmp_path / "a.qcow2", "qcow2", "64M")
    for name in ("mine", "nightly-1", "nightly-2"):
        call("image_snapshot", image=str(tmp_path / "a.qcow2"), format="qcow2", name=name)
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
            call("image_snapshot", image=str(image), format="qcow2", name="nightly-1", qmp_socket=str(vm.socket))
        vm.write(7, 0)
        status, lines, told = timer.run()
        assert (status, told["failed"], len(lines)) == (0, False, 4), lines
        vm.write(8, 0)
        vm.end()
    left = [names_in(image) for image in images]
    assert left[0] == left[1] and len(left[0]) == 1 and left[0] != ["nightly-1"]
    sound(str(images[0]))
    holds(str(images[0]), (8, 0))
    call("image_snapshot", image=str(images[0]), format="qcow2", name=left[0][0], state="reverted", save=False)
    holds(str(images[0]), (7, 0))


def test_one_that_is_in_use_is_refused_and_keeps_all_and_the_other_is_done(tmp_path: Path) -> None:
    used, free = (create(tmp_path / name, "qcow2", "64M") for name in ("used.qcow2", "free.qcow2"))
    call("image_snapshot", image=str(used), format="qcow2", name="nightly-1")
    call("image_snapshot", image=str(used), format="qcow2", name="nightly-2")
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


def skipped(told: dict[str, Any]) -> list[str | None]:
    return [each.get("skipped_reason") for each in told["snapshots"]]


@pytest.mark.parametrize("prune_by", ["a.qcow2", "link"])
def test_what_was_not_taken_as_the_image_is_in_use_takes_no_old_one_with_it(tmp_path: Path, prune_by: str) -> None:
    image = create(tmp_path / "a.qcow2", "qcow2", "64M")
    (tmp_path / "link").symlink_to(image)
    for name in ("nightly-1", "nightly-2"):
        call("image_snapshot", image=str(image), format="qcow2", name=name)
    take_it, prune = take_and_prune(image, 1, on_in_use="skip")
    prune.update(image=str(tmp_path / prune_by), qmp_socket=str(tmp_path / "qmp"))
    timer = Timer(tmp_path / "timer", take_it, prune)
    with machine(tmp_path / "qmp", image):
        status, _lines, told = timer.run()
    assert (status, skipped(told), told["changed"]) == (0, ["image_in_use", "needs_skipped"], False)
    assert names_in(image) == ["nightly-1", "nightly-2"]


def test_the_disks_of_a_vm_keep_a_moment_that_all_of_them_have(tmp_path: Path) -> None:
    images = [create(tmp_path / name, "qcow2", "64M") for name in ("a.qcow2", "b.qcow2")]
    for image in images:
        call("image_snapshot", image=str(image), format="qcow2", name="nightly-1")
    create(tmp_path / "clone.qcow2", "qcow2", "", "", "-b", images[1], "-F", "qcow2")  # from now on, b is refused
    entries = [take_and_prune(image, 1, qmp_socket=str(tmp_path / "qmp")) for image in images]
    timer = Timer(tmp_path / "timer", *(each for pair in entries for each in pair))
    with machine(tmp_path / "qmp", *images):
        status, _lines, told = timer.run()
    assert (status, [each.get("reason") for each in told["snapshots"]]) == (1, [None, "has_overlays", None, None])
    assert skipped(told) == [None, None, "needs_failed", "needs_failed"]
    assert (names_in(images[0])[0], len(names_in(images[0])), names_in(images[1])) == ("nightly-1", 2, ["nightly-1"])


def test_where_no_status_can_be_written_snapshots_are_taken_still(tmp_path: Path) -> None:
    image = create(tmp_path / "a.qcow2", "qcow2", "64M")
    timer = Timer(tmp_path / "timer", *take_and_prune(image, 1))
    timer.told.with_name("status.json").mkdir()
    done = subprocess.run(timer.words, capture_output=True, text=True, check=False)
    assert (done.returncode, len(names_in(image))) == (1, 1), done.stderr
    assert "status.json cannot be written" in done.stderr and "Traceback" not in done.stderr
    assert len(list(timer.told.parent.iterdir())) == 3


def test_where_no_journal_takes_what_it_says_it_goes_on(tmp_path: Path) -> None:
    images = [create(tmp_path / name, "qcow2", "64M") for name in ("a.qcow2", "b.qcow2")]
    timer = Timer(tmp_path / "timer", *(each for image in images for each in take_and_prune(image, 1)))
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(timer.words, stderr=full, check=False)
    assert (done.returncode, [len(names_in(image)) for image in images]) == (0, [1, 1])
    assert timer.status()["ended"]


def talks_nonsense(peer: Peer) -> None:
    """As a QEMU may that its guest has taken over."""
    peer.send({"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}}})
    peer.answer({})
    while asked := peer.receive():
        peer.send({"return": [1], "id": asked["id"]})


def test_one_vm_that_talks_nonsense_keeps_no_other_from_being_done(tmp_path: Path) -> None:
    bad, good = (create(tmp_path / name, "qcow2", "64M") for name in ("bad.qcow2", "good.qcow2"))
    timer = Timer(
        tmp_path / "timer", *take_and_prune(bad, 1, qmp_socket=str(tmp_path / "qmp")), *take_and_prune(good, 1)
    )
    with serving(tmp_path / "qmp", talks_nonsense):
        done = subprocess.run(timer.words, capture_output=True, text=True, check=False)
    told = timer.status()
    assert (done.returncode, len(names_in(good)), names_in(bad)) == (1, 1, []), done.stderr
    assert [each.get("reason") for each in told["snapshots"]] == ["failed", None, None, None]
    assert skipped(told) == [None, None, "needs_failed", None] and told["ended"]
    assert "Traceback" in done.stderr  # for those who look for the fault


@pytest.mark.parametrize("gone", [False, True])
def test_a_run_that_waits_while_its_program_is_changed_or_removed(tmp_path: Path, gone: bool) -> None:
    image = create(tmp_path / "a.qcow2", "qcow2", "64M")
    timer = Timer(tmp_path / "timer", *take_and_prune(image, 1))
    with locks.ImageLocks([str(timer.told.parent)]):
        run = subprocess.Popen(timer.words, stderr=subprocess.PIPE, text=True)
        wait_until(lambda: has_open(run.pid, "images.lock"), "it waits")
        if gone:
            shutil.rmtree(timer.told.parent)
        else:
            own_places.write_private(str(timer.program), of_another_version(timer.program.read_bytes()))
    said = run.communicate(timeout=DEADLINE)[1]
    assert (run.returncode, len(names_in(image))) == (0, 0 if gone else 1), said
    assert timer.told.parent.exists() != gone


def has_open(pid: int, name: str) -> bool:
    with contextlib.suppress(FileNotFoundError):  # closed in this moment
        return any(os.readlink(each).endswith(f"/{name}") for each in Path(f"/proc/{pid}/fd").iterdir())
    return False


def of_another_version(program: bytes) -> bytes:
    """The same, with every file somewhere else."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(program)) as before, zipfile.ZipFile(made, "w") as after:
        for name in before.namelist():
            after.writestr(name, before.read(name))
    return made.getvalue()


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
    assert told["ended"] is not None
    result = call("image_snapshot", check=True, **one.task(name="no-such", state="absent"))
    assert len(result["snapshot"]["snapshots"]) == 1
    assert held(result["snapshot"]["active"]) == seen


def test_without_systemd_there_is_no_timer(tmp_path: Path) -> None:
    assert not systemd.runs()
    entries = list(take_and_prune(tmp_path / "a.qcow2", 1))
    for check in (True, False):
        told = call("snapshot_timer", check=check, name="test", on_calendar="daily", snapshots=entries)
        assert (told["failed"], told["reason"], told["changed"]) == (True, "supervisor_missing", False)
        told = call("snapshot_timer", check=check, name="test", state="absent")
        assert (told["changed"], told["timer"]) == (False, {"name": "test", "state": "absent", "last_run": None})


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory away")
@pytest.mark.parametrize("module", ["snapshot_timer", "md_keeper"])
@pytest.mark.parametrize("check", [True, False])
def test_what_root_runs_is_not_put_where_others_can_exchange_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, check: bool
) -> None:
    top = tmp_path / "top"
    (top / "test").mkdir(parents=True)
    os.chown(top, 65534, -1)
    places = timer_places if module == "snapshot_timer" else keeper_places
    monkeypatch.setattr(places, "_TOP", str(top))
    told = call(module, check=check, name="test", state="absent")
    assert (told["failed"], told["reason"], told["changed"]) == (True, "unsafe_directory", False)
    assert (top / "test").is_dir()


@pytest.mark.skipif(not shutil.which("systemd-analyze") or os.geteuid() != 0, reason="systemd is asked")
@pytest.mark.parametrize(
    ("when", "why"), [("2020-01-01 02:30", "never comes"), ("*-02-30", "never comes"), ("25:61", "systemd says")]
)
def test_a_time_that_never_comes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, why: str
) -> None:
    """The timer would be active, wait for nothing, and no run would fail."""
    monkeypatch.setattr(systemd, "_RUNS", str(tmp_path))
    told = call(
        "snapshot_timer", check=True, name="test", on_calendar=when, snapshots=list(take_and_prune(tmp_path, 1))
    )
    assert (told["failed"], told["reason"], why in told["msg"]) == (True, "bad_option", True)


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
        asked = json.loads(spec.settings)["snapshots"] if spec.settings else []
        assert len(settings.rounds(asked, {each["image"]: each["image"] for each in asked})) == (2 if asked else 0)
