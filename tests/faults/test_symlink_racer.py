"""Another user swaps links at the image's name while root's task runs: what the links point to stays as it is."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab.amounts import amount
from ansible_collections.platter.qemu.tests.lab.programs import wait_until
from ansible_collections.platter.qemu.tests.lab.zygote import Zygote

Count = t.Callable[[str, int], None]
NOBODY = 65534
SECRET = b"not to be touched" * 4096

#: makes a link at the name, removes it, makes a file of its own, renames it there, and counts
_RACER = """
import os, sys
name, victim, tally = sys.argv[1:]
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
swaps = 0
while True:
    for kind in ("link", "rename", "dangling"):
        try:
            if kind == "rename":
                os.symlink(victim, name + ".mine"); os.rename(name + ".mine", name)
            else:
                os.symlink(victim if kind == "link" else name + ".nowhere", name)
            swaps += 1
            os.unlink(name)
        except OSError:
            for each in (name + ".mine", name):
                try: os.unlink(each)
                except OSError: pass
    with open(tally, "w") as stream: stream.write(str(swaps))
"""


@contextlib.contextmanager
def _racing(name: Path, victim: Path, tally: Path) -> t.Iterator[t.Callable[[], int]]:
    racer = subprocess.Popen([sys.executable, "-c", _RACER, str(name), str(victim), str(tally)])

    most = 0

    def swaps() -> int:
        nonlocal most
        most = max(most, int(tally.read_text() or 0))  # it may be just about to be written
        return most

    try:
        wait_until(lambda: swaps() > 0, "the racer runs")
        yield swaps
        assert racer.poll() is None, "the racer gave up"
    finally:
        racer.send_signal(signal.SIGKILL)
        racer.wait()


@pytest.fixture
def shared() -> t.Iterator[Path]:
    """A directory that anyone can write to, sticky as /tmp is; outside of pytest's own private one."""
    directory = Path("/tmp") / f"racer-{os.getpid()}-{time.monotonic_ns()}"
    directory.mkdir()
    directory.chmod(0o1777)
    yield directory
    subprocess.run(["rm", "-rf", str(directory)], check=True)


ABSENT = {"state": "absent"}
TASKS: tuple[dict[str, t.Any], ...] = (
    {"format": "qcow2", "size": "1M"},
    ABSENT,
    {"format": "raw", "size": "1M"},
    ABSENT,
    {"format": "qcow2", "size": "2M", "mode": "0666"},
    ABSENT,
    {"format": "raw", "size": "3M", "owner": "nobody"},
    ABSENT,
)


def test_a_link_racer_never_reaches_its_victim(shared: Path, place: Path, zygote: Zygote, count: Count) -> None:
    victim, tally = place / "victim", shared / "tally"
    victim.write_bytes(SECRET)
    victim.chmod(0o600)
    before = victim.stat()
    tally.touch()
    os.chown(tally, NOBODY, NOBODY)
    name = shared / "disk.img"
    wanted, runs = amount(1_000, 10_000), 0
    end = time.monotonic() + amount(900, 3600)
    with _racing(name, victim, tally) as swaps:
        while swaps() < wanted or runs < amount(60, 1000):
            assert time.monotonic() < end, (swaps(), runs)
            result = zygote.run("disk_image", dict(TASKS[runs % len(TASKS)], path=str(name)))
            assert not result.get("failed") or result["msg"].startswith(("refused", "failed")), result
            before_run = (result.get("diff") or {}).get(
                "before", {}
            )  # a link is refused before there is anything to tell of
            taken = before_run.get("virtual_size")
            assert taken != len(SECRET), f"the victim was taken for the image: {result}"
            runs += 1
        swapped = swaps()
    now = victim.stat()
    assert victim.read_bytes() == SECRET
    assert (now.st_mode, now.st_uid, now.st_mtime_ns, now.st_ino, now.st_nlink) == (
        before.st_mode,
        before.st_uid,
        before.st_mtime_ns,
        before.st_ino,
        before.st_nlink,
    )
    _root_left_nothing_open(shared)
    count("link swaps raced", swapped)


def _root_left_nothing_open(shared: Path) -> None:
    """What the task made is an image or nothing: no build directory of ours stays behind."""
    assert not [path for path in shared.iterdir() if path.name.startswith(".platter-tmp")]


def test_a_planted_link_is_not_followed(shared: Path, place: Path, zygote: Zygote) -> None:
    victim = place / "victim"
    victim.write_bytes(SECRET)
    name = shared / "disk.img"
    name.symlink_to(victim)
    os.chown(name, NOBODY, NOBODY, follow_symlinks=False)
    for task in TASKS:
        result = zygote.run("disk_image", dict(task, path=str(name)))
        assert result.get("reason") == "unsafe_directory", result
    assert victim.read_bytes() == SECRET and name.is_symlink()


def test_a_directory_where_anyone_can_rename_is_refused(shared: Path, zygote: Zygote) -> None:
    shared.chmod(0o777)
    result = zygote.run("disk_image", {"path": str(shared / "disk.img"), "format": "raw", "size": "1M"})
    assert result.get("reason") == "unsafe_directory", result
    assert not list(shared.iterdir())
