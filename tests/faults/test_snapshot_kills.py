"""kill -9 while snapshots are taken, left or merged: the disk is old or new, no other snapshot is harmed, and the next
run converges without anybody's help.
"""

from __future__ import annotations

import os
import re
import signal
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab import strace
from ansible_collections.platter.qemu.tests.lab.amounts import amount, generator, share
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import try_qemu_img
from ansible_collections.platter.qemu.tests.lab.patterns import copy_world, files_of
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, disk, format_of, held
from ansible_collections.platter.qemu.tests.lab.trials import wait_until_quiet
from ansible_collections.platter.qemu.tests.lab.zygote import Child, Zygote

Count = t.Callable[[str, int], None]
MODULE = "image_snapshot"
_COUNTED = re.compile(r"ERROR OFLAG_COPIED .*refcount=([2-9]|[1-9][0-9]+)$")


@dataclass(frozen=True)
class Step:
    """A task on a disk that has the snapshots s1 and s2, and has been written to since."""

    name: str
    kind: str
    switch: str
    task: dict[str, t.Any]


def _named(name: str, state: str = "present") -> dict[str, t.Any]:
    return {"name": name, "state": state}


_BITMAP = {"bitmaps": [{"name": "b"}]}
STEPS = [
    Step("take", "internal", "none", _named("s3")),
    Step("delete", "internal", "none", _named("s1", "absent")),
    Step("revert", "internal", "none", _named("s1", "reverted")),
    Step("bitmap", "internal", "none", _BITMAP),
    Step("prune", "internal", "none", {"state": "pruned", "retention": {"keep_last": 1}}),
    *(Step(f"take-{switch}", "external", switch, _named("s3")) for switch in ("none", "rename", "symlink")),
    *(Step(f"revert-{switch}", "external", switch, _named("s1", "reverted")) for switch in ("rename", "symlink")),
    Step("throw-away", "external", "rename", {**_named("s1", "reverted"), "save": False}),
    *(Step(f"commit-top-{switch}", "external", switch, _named("s2", "committed")) for switch in ("rename", "symlink")),
    Step("commit-middle", "external", "rename", _named("s1", "committed")),
    Step("stream-top", "external", "rename", _named("s2", "streamed")),
    Step("stream-middle", "external", "symlink", _named("s1", "streamed")),
    Step("prune-layers", "external", "rename", {"state": "pruned", "retention": {"keep_last": 1}}),
]


class View(t.NamedTuple):
    """What the guest sees, and what each snapshot holds that is not being merged."""

    disk: str
    points: dict[str, str]


class Trials:
    """One step tried again and again from the same world."""

    def __init__(self, step: Step, zygote: Zygote, directory: Path) -> None:
        self.zygote = zygote
        self.directory = directory
        self.made = _made(step, directory)
        self.world = self.made.image.parent
        self.kept = directory / "kept"
        self.options = self.made.task(**step.task)
        copy_world(self.world, self.kept)
        self.old = self.look()
        self.calls = self._undisturbed()
        self.new, self.new_names = self.look(), set(files_of(self.world))
        self.begun = time.monotonic()

    def _undisturbed(self) -> list[strace.Call]:
        log = self.directory / "undisturbed.log"
        begun = time.monotonic()
        child = self.traced("-e", "trace=" + ",".join(strace.FAULTY), log=log)
        child.wait()
        self.seconds = time.monotonic() - begun
        result = child.result()
        assert result.get("changed") and not result.get("failed"), result
        return strace.calls_of(log)

    def traced(self, *options: str, log: Path | None = None) -> Child:
        child = self.start(stopped=True)
        with strace.tracing(child, log or self.directory / "traced.log", *options):
            pass
        return child

    def start(self, *, stopped: bool = False) -> Child:
        return self.zygote.start(MODULE, dict(self.options, lock_timeout=120), stopped=stopped)

    def points(self) -> list[tuple[str, int]]:
        """Every system call that changes something, by its name and number within its thread."""
        most = strace.most_by_one(self.calls)
        return [(name, at) for name in sorted(most) for at in range(1, most[name] + 1)]

    def reset(self) -> None:
        copy_world(self.kept, self.world)

    def look(self) -> View:
        """By QEMU's eyes; which file is which snapshot only we know."""
        told = call(MODULE, check=True, **self.made.task(name="no such", state="absent"))
        assert not told.get("failed"), told["msg"]
        snapshot = told["snapshot"]
        self.made.active = Path(snapshot["active"])
        points = {each["name"]: each.get("path") for each in snapshot["snapshots"] if not each.get("merging")}
        return View(self._opened(), {name: self._held(name, path) for name, path in points.items()})

    def _opened(self) -> str:
        """What the VM would open: the name that does not change, or the file that it is told of."""
        return held(self.made.active if self.made.switch == "none" else self.made.image)

    def _held(self, name: str, path: str | None) -> str:
        return held(path, format_of(Path(path))) if path else held(self.made.active, "qcow2", name)

    def judge(self) -> None:
        """Old or new, and every snapshot that is not the matter of the step as it was."""
        seen = self.look()
        assert seen.disk in (self.old.disk, self.new.disk), "the guest sees something else"
        known = {**self.new.points, **self.old.points}
        for name, digest in seen.points.items():
            assert known.get(name) == digest, f"{name} does not hold what it held"
        lost = set(self.old.points) & set(self.new.points) - set(seen.points)
        assert not lost, f"lost: {lost}"
        for path in self.world.iterdir():
            if path.is_file() and format_of(path) == "qcow2":
                assert not _damage(path), f"{path}: {_damage(path)}"

    def converges(self) -> None:
        again = self.start()
        again.wait()
        assert not again.result().get("failed"), again.result()["msg"]
        assert self.look() == self.new
        assert set(files_of(self.world)) == self.new_names
        once_more = call(MODULE, **self.options)
        assert (once_more.get("failed"), once_more["changed"]) == (None, False), once_more

    def after_kill(self, child: Child, point: object) -> None:
        status = child.wait()
        wait_until_quiet(self.world, self.zygote)
        try:
            if status != -signal.SIGKILL and child.result().get("failed"):
                assert child.result()["msg"].startswith(("failed", "refused"))
            self.judge()
            self.converges()
        except AssertionError as exc:
            raise AssertionError(f"killed at {point} (exit status {status}): {exc}") from exc


def _damage(path: Path) -> list[str]:
    """Errors of C(qemu-img check) but clusters that nothing uses, and a kind of error that comes with those.

    A qemu-img that is killed may have counted clusters for a snapshot that it did not come to make. Their counts are
    too high then, and C(OFLAG_COPIED), which says that the count is 1, is as it was.
    """
    said = try_qemu_img("check", "-f", "qcow2", path)
    return [
        line
        for line in said.stdout.splitlines() + said.stderr.splitlines()
        if line.startswith("ERROR") and not _COUNTED.match(line)
    ]


def _made(step: Step, directory: Path) -> Disk:
    made = disk(directory, step.kind, step.switch)
    for number, name in enumerate(("s1", "s2"), 3):
        assert call(MODULE, **made.task(name=name))["changed"]
        made.active = Path(call(MODULE, check=True, **made.task(name=name))["snapshot"]["active"])
        made.then[name] = ""
        made.write(number, number * 65536)
    return made


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_killed_at_a_system_call_is_old_or_new(step: Step, zygote: Zygote, place: Path, count: Count) -> None:
    trials = Trials(step, zygote, place)
    points = share(trials.points(), 5, "snapshot " + step.name)
    for name, when in points:
        trials.reset()
        child = trials.traced("-e", "trace=" + name, "-e", f"inject={name}:signal=KILL:when={when}")
        trials.after_kill(child, (name, when))
    count("kills at a system call", len(points))


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_killed_at_any_time_is_old_or_new(step: Step, zygote: Zygote, place: Path, count: Count) -> None:
    trials, dice = Trials(step, zygote, place), generator("snapshot " + step.name)
    trials.reset()
    begun = time.monotonic()
    trials.start().wait()
    whole = time.monotonic() - begun
    rounds = amount(2, 60)
    for number in range(rounds):
        trials.reset()
        delay = whole * (number + dice.random()) / rounds
        child = trials.start()
        time.sleep(delay)
        os.kill(child.pid, signal.SIGKILL)
        trials.after_kill(child, f"{delay:.4f} s")
    count("kills at any time", rounds)
