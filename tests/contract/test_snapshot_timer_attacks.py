"""What could make a timer lose snapshots, or be silent about it: full disks, VMs that lie, and who changes what meanwhile."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._keeper import places as keeper_places
from ansible_collections.platter.qemu.plugins.module_utils._timer import places as timer_places
from ansible_collections.platter.qemu.plugins.module_utils._tools import locks, own_places, systemd
from ansible_collections.platter.qemu.tests.lab.machine import machine
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE, wait_until
from ansible_collections.platter.qemu.tests.lab.scripted import Peer, serving
from ansible_collections.platter.qemu.tests.lab.snapshots import names_in
from ansible_collections.platter.qemu.tests.lab.timers import Timer, take_and_prune


def skipped(told: dict[str, Any]) -> list[str | None]:
    return [each.get("skipped_reason") for each in told["snapshots"]]


@pytest.mark.parametrize("prune_by", ["a.qcow2", "link"])
def test_what_was_not_taken_as_the_image_is_in_use_takes_no_old_one_with_it(tmp_path: Path, prune_by: str) -> None:
    image = create(tmp_path / "a.qcow2", "qcow2", "64M")
    (tmp_path / "link").symlink_to(image)
    for name in ("nightly-1", "nightly-2"):
        prepared("image_snapshot", image=str(image), format="qcow2", name=name)
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
        prepared("image_snapshot", image=str(image), format="qcow2", name="nightly-1")
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


def test_what_it_says_can_be_printed_whatever_names_are_in_an_image(tmp_path: Path) -> None:
    """Else journalctl shows how many bytes there were, and no reason."""
    image = create(tmp_path / "a.qcow2", "qcow2", "64M")
    qemu_img("snapshot", "-c", "nightly-\x1b[31mred", image)
    status, lines, told = Timer(tmp_path / "timer", *take_and_prune(image, 1)).run()
    assert (status, len(names_in(image)), told["failed"]) == (0, 1, False)
    assert "Delete snapshot nightly-\\x1b[31mred " in lines[1] and all(map(str.isprintable, lines))


def test_a_name_that_no_file_can_have_keeps_no_other_from_being_done(tmp_path: Path) -> None:
    image = create(tmp_path / "a.qcow2", "qcow2", "64M")
    timer = Timer(tmp_path / "timer", *take_and_prune(tmp_path / "\ud800", 1), *take_and_prune(image, 1))
    done = subprocess.run(timer.words, capture_output=True, check=False)
    assert (done.returncode, len(names_in(image)), timer.status()["failed"]) == (1, 1, True), done.stderr


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
