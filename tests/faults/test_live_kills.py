"""kill -9 between any two steps of a task on a VM that runs: it goes on and loses nothing, and the next run ends it."""

from __future__ import annotations

import signal
import typing as t
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab import strace
from ansible_collections.platter.qemu.tests.lab.amounts import share
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.live import holds, names, sound
from ansible_collections.platter.qemu.tests.lab.machine import Machine, machine
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.programs import wait_until
from ansible_collections.platter.qemu.tests.lab.zygote import Child, Zygote

Task = t.Dict[str, t.Any]
Count = t.Callable[[str, int], None]
#: what the module says to QEMU and hears from it, and what it does to files between
_CALLS = ("sendto", "recvfrom", "setxattr", "rename", "link", "unlink", "symlink", "fsync")
_WRITTEN = ((1, 0), (2, 1), (3, 2))


@dataclass(frozen=True)
class Step:
    """A task on a VM whose disk has the external snapshots s1 and s2."""

    name: str
    task: Task
    switch: str = "none"
    kind: str = "external"
    image: str = "a.qcow2"


STEPS = [
    Step("take", {"name": "s3"}),
    Step("take-symlink", {"name": "s3"}, "symlink"),
    Step("commit-active", {"name": "s2", "state": "committed"}),
    Step("commit-active-symlink", {"name": "s2", "state": "committed"}, "symlink"),
    Step("commit-middle", {"name": "s1", "state": "committed"}),
    Step("stream-active", {"name": "s2", "state": "streamed"}, image="a.s2.qcow2"),
    Step("stream-middle", {"name": "s1", "state": "streamed"}, "symlink"),
    Step("take-internal", {"name": "i"}, kind="internal", image="a.s2.qcow2"),
    Step("bitmap", {"bitmaps": [{"name": "all", "sources": []}]}, kind="internal", image="a.s2.qcow2"),
]


class World:
    """A VM with a disk in three layers, made anew for each trial."""

    def __init__(self, step: Step, directory: Path) -> None:
        self.step = step
        self.directory = directory
        self.images = directory / "images"
        self.images.mkdir(parents=True)
        self.first = self.images / ("a.v0.qcow2" if step.switch == "symlink" else "a.qcow2")
        create(self.first, "qcow2", "16M")
        if step.switch == "symlink":
            (self.images / "a.qcow2").symlink_to(self.first.name)
        self.socket = directory / "qmp"

    def made(self, vm: Machine) -> None:
        vm.write(*_WRITTEN[0])
        for number, name in enumerate(("s1", "s2"), 1):
            result = call("image_snapshot", **self.task(kind="external", image="a.qcow2", name=name))
            assert result["changed"] and not result.get("failed"), result
            vm.write(*_WRITTEN[number])

    def task(self, **more: t.Any) -> Task:
        asked = {"kind": self.step.kind, "image": self.step.image, **more}
        switch = {"switch": self.step.switch} if asked["kind"] == "external" else {}
        asked["image"] = str(self.images / asked["image"])
        return {"format": "qcow2", "qmp_socket": str(self.socket), "lock_timeout": 10, **switch, **asked}

    def judge(self, vm: Machine) -> None:
        """The guest goes on, and reads what it has written."""
        assert vm.process.poll() is None
        assert all(vm.shows(*written) for written in _WRITTEN)

    def converges(self, vm: Machine, expected: set[str]) -> None:
        again = call("image_snapshot", **self.task(**self.step.task))
        assert not again.get("failed"), again["msg"]
        settled(**self.task(**self.step.task))
        vm.write(4, 3)
        self.judge(vm)
        assert (vm.jobs(), names(self.images)) == ([], expected)
        active = vm.active()
        if self.step.switch == "symlink":
            assert str((self.images / "a.qcow2").resolve()) == active
        vm.end()
        sound(active)
        holds(active, *_WRITTEN, (4, 3))


def _traced(zygote: Zygote, task: Task, log: Path, *options: str) -> Child:
    child = zygote.start("image_snapshot", task, stopped=True)
    with strace.tracing(child, log, *options):
        pass
    return child


def _undisturbed(step: Step, zygote: Zygote, place: Path) -> tuple[list[tuple[str, int]], set[str]]:
    """Every step that the module takes, and what there is afterwards."""
    world = World(step, place / "undisturbed")
    with machine(world.socket, world.first) as vm:
        world.made(vm)
        log = place / "undisturbed.log"
        child = _traced(zygote, world.task(**step.task), log, "-e", "trace=" + ",".join(_CALLS))
        child.wait()
        assert child.result().get("changed") and not child.result().get("failed"), child.result()
        most = strace.most_by_one([each for each in strace.calls_of(log) if each.pid == child.pid])
    return [(name, at) for name in sorted(most) for at in range(1, most[name] + 1)], names(world.images)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_killed_between_two_steps_of_a_task_on_a_running_vm(
    step: Step, zygote: Zygote, place: Path, count: Count
) -> None:
    points, expected = _undisturbed(step, zygote, place)
    chosen = share(points, 6, "live " + step.name)
    for number, (name, at) in enumerate(chosen):
        world = World(step, place / str(number))
        with machine(world.socket, world.first) as vm:
            world.made(vm)
            inject = f"inject={name}:signal=KILL:when={at}"
            child = _traced(zygote, world.task(**step.task), place / "log", "-e", "trace=" + name, "-e", inject)
            try:
                killed = child.wait() == -signal.SIGKILL  # how often it hears of a job is not the same each time
                assert killed or not child.result().get("failed"), child.result()
                world.judge(vm)
                world.converges(vm, expected)
            except AssertionError as exc:
                raise AssertionError(f"{step.name} killed at {name} {at}: {exc}") from exc
    count("kills of tasks on a running VM", len(chosen))


def test_a_vm_that_ends_while_it_leaves_a_layer(zygote: Zygote, place: Path) -> None:
    """Which of the two files has what it wrote last, nobody can tell from outside."""
    step = next(each for each in STEPS if each.name == "commit-active")
    world = World(step, place / "world")
    with machine(world.socket, world.first) as vm:
        world.made(vm)
        task = world.task(**step.task)
        child = _traced(zygote, task, place / "log", "-e", "trace=rename", "-e", "inject=rename:signal=KILL:when=1")
        child.wait()
        overlay = world.images / "a.s2.qcow2"
        if overlay.exists():  # killed before the kernel did it
            overlay.rename(str(overlay) + ".leaving~")
        world.judge(vm)
        vm.end()
    told = refused("merge_unfinished", **task)
    assert told["evidence"] == {"overlay": f"{overlay}.leaving~", "base": str(world.images / "a.s1.qcow2")}
    Path(f"{overlay}.leaving~").rename(overlay)
    four_beats(**task)
    holds(world.images / "a.s1.qcow2", *_WRITTEN)
    wait_until(lambda: not Path(f"{overlay}.leaving~").exists(), "nothing is left")
