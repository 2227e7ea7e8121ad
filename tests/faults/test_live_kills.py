"""kill -9 between any two steps of a task on a VM that runs: it goes on and loses nothing, and the next run ends it."""

from __future__ import annotations

import functools
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._snapshot import layer_records
from ansible_collections.platter.qemu.tests.lab import kills
from ansible_collections.platter.qemu.tests.lab.amounts import share
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.guest import qemu_io
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


Undisturbed = t.Callable[[Step], tuple[list[kills.Point], set[str]]]


@pytest.fixture(scope="module")
def undisturbed(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Every step that the module takes for a task, and which files there are afterwards."""

    @functools.lru_cache(None)
    def run(step_name: str) -> tuple[list[kills.Point], set[str]]:
        place = tmp_path_factory.mktemp("undisturbed")
        world = World(next(step for step in STEPS if step.name == step_name), place)
        with machine(world.disk.socket, world.disk.first) as vm:
            world.made(vm)
            points = kills.points_of(zygote, world.task, place / "log", _CALLS)
        return points, names(world.disk.images)

    return lambda step: run(step.name)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_killed_between_two_steps_of_a_task_on_a_running_vm(
    step: Step, zygote: Zygote, place: Path, count: Count, undisturbed: Undisturbed
) -> None:
    points, expected = undisturbed(step)
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


def _crash(vm: Machine) -> None:
    vm.process.kill()
    vm.process.wait()


#: each task with each way in which a VM ends
_ENDINGS = [(step, end) for step in (*TAKES, *MERGES) for end in (Machine.end, _crash)]


@pytest.mark.parametrize(
    ("step", "end"), share(_ENDINGS, 8, "endings"), ids=lambda part: getattr(part, "name", "") or part.__name__
)
def test_a_vm_that_ends_after_the_module_was_killed(
    step: Step, end: t.Callable[[Machine], None], zygote: Zygote, place: Path, count: Count, undisturbed: Undisturbed
) -> None:
    """What its guest wrote is in the file that it had as its disk; the next run ends the task, or says that it cannot."""
    points, expected = undisturbed(step)
    chosen = share(points, 1, f"ended {end.__name__} {step.name}")
    for number, point in enumerate(chosen):
        world = World(step, place / str(number))
        with machine(world.disk.socket, world.disk.first) as vm:
            world.made(vm)
            kills.killed_at(zygote, world.task, place / "log", point)
            active = vm.active()
            end(vm)
        try:
            _ends_or_refuses(world, active, expected)
        except AssertionError as exc:
            raise AssertionError(f"{step.name} killed at {point}, then {end.__name__}: {exc}") from exc
    count("ends of a VM after its task was killed", len(chosen))


@pytest.mark.parametrize("name", ["stream-active", "stream-middle", "commit-middle"])
def test_a_vm_that_crashes_when_all_is_copied(name: str, zygote: Zygote, place: Path) -> None:
    """QEMU writes which base a layer has before it writes the tables of what it has copied into the layer."""
    step = next(each for each in MERGES if each.name == name)
    seen = World(step, place / "seen")
    with machine(seen.disk.socket, seen.disk.first) as vm:
        seen.made(vm)
        kills.points_of(zygote, seen.task, place / "log", ("sendto",))
    point = kills.after(place / "log", f"block-{name.partition('-')[0]}")
    world = World(step, place / "world")
    with machine(world.disk.socket, world.disk.first) as vm:
        world.made(vm)
        assert kills.killed_at(zygote, world.task, place / "killed", point)
        wait_until(lambda: all(each["status"] == "pending" for each in vm.qmp("query-jobs")), "all is copied")
        active = vm.active()
        _crash(vm)
    _ends_or_refuses(world, active, names(seen.disk.images))


def _ends_or_refuses(world: World, active: str, expected: set[str]) -> None:
    left = Path(active + ".leaving~")
    holds(left if left.exists() else active, *_WRITTEN)
    again = call("image_snapshot", **world.task)
    if again.get("reason") == "merge_unfinished":
        assert not again["changed"] and Path(again["evidence"]["overlay"]).exists(), again
        return
    assert not again.get("failed"), again["msg"]
    settled(**world.task)
    assert names(world.disk.images) == expected
    holds(again["snapshot"]["active"], *_WRITTEN)


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("written", [False, True])
def test_a_vm_that_ends_while_it_leaves_a_layer(told: bool, written: bool, zygote: Zygote, place: Path) -> None:
    """Once it is told to, it can have written to either of the two files last: only where both show the same, it is no matter."""
    step = next(each for each in STEPS if each.name == "commit-active")
    world = World(step, place / "world")
    images = world.disk.images
    overlay, base = images / "a.s2.qcow2", images / "a.s1.qcow2"
    with machine(world.disk.socket, world.disk.first) as vm:
        world.made(vm)
        assert kills.killed_at(zygote, world.task, place / "log", ("rename", 1))
        if overlay.exists():  # killed before the kernel did it
            overlay.rename(str(overlay) + ".leaving~")
        if told:
            layer_records.note_told(str(base))
        world.judge(vm)
        vm.end()
    if written:
        qemu_io(base, "qcow2", "write -q -P 5 2M 64k")  # where the overlay holds data too
    if told and written:
        evidence = refused("merge_unfinished", **world.task)["evidence"]
        assert evidence == {"overlay": f"{overlay}.leaving~", "base": str(base)}
        Path(f"{overlay}.leaving~").unlink()  # as the message says, if it is the base that is right
        settled(**world.task)
    else:
        four_beats(**world.task)
    holds(base, *_WRITTEN[:2], (5 if told and written else 3, 2))
    assert not Path(f"{overlay}.leaving~").exists()
