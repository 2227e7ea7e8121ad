"""Snapshots of a guest at rest: its file systems are frozen by its own agent, and thawed whatever happens."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._tools import records
from ansible_collections.platter.qemu.plugins.module_utils._tools.guest_agent import GuestAgent
from ansible_collections.platter.qemu.tests.lab.guest import filename
from ansible_collections.platter.qemu.tests.lab.load import mounted
from ansible_collections.platter.qemu.tests.lab.modules import call, process
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img
from ansible_collections.platter.qemu.tests.lab.plug import plugged
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE
from ansible_collections.platter.qemu.tests.lab.strace import Call, calls_of
from ansible_collections.platter.qemu.tests.lab.vm import Disk, Guest

pytestmark = pytest.mark.xdist_group("guest")
SIZE = 16 << 20


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return create(tmp_path / "disk.qcow2", "qcow2", SIZE)


def options(guest: Guest, image: Path, **more: Any) -> dict[str, Any]:
    """A task that needs the guest at rest."""
    sockets = {"qmp_socket": str(guest.qmp), "agent_socket": str(guest.agent)}
    return {"image": str(image), "format": "qcow2", "name": "one", "quiesce": "required", **sockets, **more}


def features(image: Path, *more: str) -> str:
    """Of the file system in an image, by e2fsprogs; C(needs_recovery) is there while it is mounted and not at rest."""
    raw = image.with_suffix(".raw")
    qemu_img("convert", *more, "-O", "raw", filename(image, "qcow2"), raw)
    told = subprocess.run(["dumpe2fs", "-h", raw], capture_output=True, text=True, check=True)
    return next(line for line in told.stdout.splitlines() if line.startswith("Filesystem features"))


def content(image: Path, name: str) -> bytes:
    """A file of that file system, after C(features)."""
    command = ["debugfs", "-R", f"cat {name}", image.with_suffix(".raw")]
    return subprocess.run(command, capture_output=True, check=True).stdout


@pytest.mark.parametrize("quiesce", ("required", "try", "no"))
def test_what_was_written_is_in_it(guest: Guest, image: Path, quiesce: str) -> None:
    with plugged(guest, Disk(image)) as plugged_in, mounted(guest, plugged_in[0]):
        guest.run("echo written >/mnt/file")
        result = call("image_snapshot", **options(guest, image, quiesce=quiesce))
        assert not result.get("failed") and result["changed"], result.get("msg", result)
        assert "warnings" not in result, result["warnings"]
        guest.run("echo later >/mnt/file; sync")
    at_rest = "needs_recovery" not in features(image, "-l", "snapshot.name=one")
    assert at_rest == (quiesce != "no")
    if at_rest:
        assert content(image, "/file") == b"written\n"


def test_without_an_agent_nothing_is_taken(guest: Guest, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GuestAgent.connect.__func__, "__defaults__", (2.0, (), frozenset()))
    with plugged(guest, Disk(image)) as plugged_in, mounted(guest, plugged_in[0]), without_agent(guest):
        result = call("image_snapshot", **options(guest, image))
        assert result["failed"] and not result["changed"] and result["reason"].startswith("agent_"), result
        other = call("image_snapshot", **options(guest, image, quiesce="try"))
        assert other["changed"] and "not frozen" in str(other["warnings"]), other
    assert "one" in qemu_img("snapshot", "-l", image)


class without_agent:  # noqa: N801 it reads as what it is
    """While the block runs, the agent in the guest does not answer."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def __enter__(self) -> None:
        self._guest.run("kill -STOP $(pidof qemu-ga)")

    def __exit__(self, *_unused: object) -> None:
        self._guest.run("kill -CONT $(pidof qemu-ga)")


def sent(log: Path) -> list[Call]:
    """What the module itself has sent, in order: to QEMU, to the agent, to its watcher."""
    calls = calls_of(log)
    return [call for call in calls if call.pid == calls[0].pid]


def run_under_strace(log: Path, task: dict[str, Any], *more: str) -> int:
    """The module's exit status, after all that it started has ended."""
    strace = ("strace", "-f", "-qq", "-s", "400", "-o", str(log), "-e", "trace=sendto", *more)
    module = process("image_snapshot", under=strace, **task)
    module.communicate(timeout=DEADLINE)
    return module.returncode


def test_a_snapshot_whose_guest_cannot_be_thawed_at_once_is_told_as_taken(
    guest: Guest, image: Path, tmp_path: Path
) -> None:
    """The watcher thaws the guest; and what the snapshot's file is to stay is remembered."""
    log = tmp_path / "calls"
    with plugged(guest, Disk(image)) as plugged_in, mounted(guest, plugged_in[0]):
        assert run_under_strace(log, options(guest, image, kind="internal", name="seen")) == 0
        task = options(guest, image, kind="external")
        inject = f"inject=sendto:error=EPIPE:when={moments(log)[-1]}"
        strace = ("strace", "-f", "-qq", "-o", str(log), "-e", "trace=sendto", "-e", inject)
        module = process("image_snapshot", under=strace, **task)
        told = json.loads(module.communicate(timeout=DEADLINE)[0].splitlines()[-1])
        assert (told["failed"], told["changed"], told["reason"]) == (True, True, "agent_unreachable"), told
        assert "the snapshot was taken" in told["msg"]
        with GuestAgent.connect(str(guest.agent)) as agent:
            assert agent.fsfreeze_status() == "thawed"
        assert "mtime_ns" in records.read_record(str(image))["snapshot"]
        assert not call("image_snapshot", **task)["changed"]


def moments(log: Path) -> list[int]:
    """Which of the module's calls come after the word to freeze and up to the word to thaw; counted from 1."""
    texts = [call.text for call in sent(log)]
    first = next(number for number, text in enumerate(texts) if "guest-fsfreeze-freeze" in text)
    last = next(number for number, text in enumerate(texts) if "guest-fsfreeze-thaw" in text)
    return list(range(first + 2, last + 2))


@pytest.mark.parametrize("kind", ("internal", "external"))
def test_a_module_that_is_killed_leaves_no_frozen_guest(guest: Guest, image: Path, tmp_path: Path, kind: str) -> None:
    log = tmp_path / "calls"
    with plugged(guest, Disk(image)) as plugged_in, mounted(guest, plugged_in[0]):
        assert run_under_strace(log, options(guest, image, kind=kind, name="seen")) == 0
        points = moments(log)
        assert len(points) >= 3
        for point in points:
            task = options(guest, image, kind=kind, name=f"killed-at-{point}")
            inject = f"inject=sendto:signal=KILL:when={point}"
            assert run_under_strace(log, task, "-e", inject) != 0
            assert len(sent(log)) == point
            with GuestAgent.connect(str(guest.agent)) as agent:
                assert agent.fsfreeze_status() == "thawed", point
            guest.run(f"echo {point} >/mnt/file; sync")
            result = call("image_snapshot", **task)
            assert not result.get("failed"), (point, result["msg"])
            assert not call("image_snapshot", check=True, **task)["changed"]
