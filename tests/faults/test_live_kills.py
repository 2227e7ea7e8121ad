"""kill -9 between any two steps of a task on a VM that runs: it goes on and loses nothing, and the next run ends it."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab import kills
from ansible_collections.platter.qemu.tests.lab.amounts import share
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.layered import MERGES, TAKES, Layered, Step
from ansible_collections.platter.qemu.tests.lab.live import holds, names, sound
from ansible_collections.platter.qemu.tests.lab.machine import Machine, machine
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.programs import wait_until
from ansible_collections.platter.qemu.tests.lab.zygote import Zygote

Count = t.Callable[[str, int], None]
#: what the module says to QEMU and hears from it, and what it does to files between
_CALLS = ("sendto", "recvfrom", "setxattr", "rename", "link", "unlink", "symlink", "fsync")
_WRITTEN = ((1, 0), (2, 1), (3, 2))
_BITMAP = Step("bitmap", {"bitmaps": [{"name": "all", "sources": []}]}, kind="internal", image="a.s2.qcow2")
STEPS = [*TAKES, *MERGES, _BITMAP]


class World:
    """A VM with a disk in three layers, made anew for each trial."""

    def __init__(self, step: Step, directory: Path) -> None:
        self.disk = Layered(step, directory, directory / "qmp", "16M")

    def made(self, vm: Machine) -> None:
        vm.write(*_WRITTEN[0])
        for number, name in enumerate(("s1", "s2"), 1):
            self.disk.take(name)
            vm.write(*_WRITTEN[number])

    @property
    def task(self) -> dict[str, t.Any]:
        return self.disk.task(**self.disk.step.task)

    def judge(self, vm: Machine) -> None:
        """The guest goes on, and reads what it has written."""
        assert vm.process.poll() is None
        assert all(vm.shows(*written) for written in _WRITTEN)

    def converges(self, vm: Machine, expected: set[str]) -> None:
        again = call("image_snapshot", **self.task)
        assert not again.get("failed"), again["msg"]
        settled(**self.task)
        vm.write(4, 3)
        self.judge(vm)
        assert (vm.jobs(), names(self.disk.images)) == ([], expected)
        active = vm.active()
        if self.disk.step.switch == "symlink":
            assert str(self.disk.named.resolve()) == active
        vm.end()
        sound(active)
        holds(active, *_WRITTEN, (4, 3))


def _undisturbed(step: Step, zygote: Zygote, place: Path) -> tuple[list[kills.Point], set[str]]:
    """Every step that the module takes, and what there is afterwards."""
    world = World(step, place / "undisturbed")
    with machine(world.disk.socket, world.disk.first) as vm:
        world.made(vm)
        points = kills.points_of(zygote, world.task, place / "undisturbed.log", _CALLS)
    return points, names(world.disk.images)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_killed_between_two_steps_of_a_task_on_a_running_vm(
    step: Step, zygote: Zygote, place: Path, count: Count
) -> None:
    points, expected = _undisturbed(step, zygote, place)
    chosen = share(points, 6, "live " + step.name)
    for number, point in enumerate(chosen):
        world = World(step, place / str(number))
        with machine(world.disk.socket, world.disk.first) as vm:
            world.made(vm)
            try:
                kills.killed_at(zygote, world.task, place / "log", point)
                world.judge(vm)
                world.converges(vm, expected)
            except AssertionError as exc:
                raise AssertionError(f"{step.name} killed at {point}: {exc}") from exc
    count("kills of tasks on a running VM", len(chosen))


def test_a_vm_that_ends_while_it_leaves_a_layer(zygote: Zygote, place: Path) -> None:
    """Which of the two files has what it wrote last, nobody can tell from outside."""
    step = next(each for each in STEPS if each.name == "commit-active")
    world = World(step, place / "world")
    images = world.disk.images
    with machine(world.disk.socket, world.disk.first) as vm:
        world.made(vm)
        assert kills.killed_at(zygote, world.task, place / "log", ("rename", 1))
        overlay = images / "a.s2.qcow2"
        if overlay.exists():  # killed before the kernel did it
            overlay.rename(str(overlay) + ".leaving~")
        world.judge(vm)
        vm.end()
    told = refused("merge_unfinished", **world.task)
    assert told["evidence"] == {"overlay": f"{overlay}.leaving~", "base": str(images / "a.s1.qcow2")}
    Path(f"{overlay}.leaving~").rename(overlay)
    four_beats(**world.task)
    holds(images / "a.s1.qcow2", *_WRITTEN)
    wait_until(lambda: not Path(f"{overlay}.leaving~").exists(), "nothing is left")
