"""kill -9 between any two messages to QEMU while its guest writes a known sequence: the guest goes on, not one block that it
knows of is lost, and the next run ends what the killed one began.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab import kills
from ansible_collections.platter.qemu.tests.lab.amounts import amount, share
from ansible_collections.platter.qemu.tests.lab.guest import guest_bytes
from ansible_collections.platter.qemu.tests.lab.layered import MERGES, TAKES, Layered, Step
from ansible_collections.platter.qemu.tests.lab.live import names, sound
from ansible_collections.platter.qemu.tests.lab.load import Writer, writing
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.plug import plugged
from ansible_collections.platter.qemu.tests.lab.sequence import Layout, written_up_to
from ansible_collections.platter.qemu.tests.lab.vm import Disk, Guest
from ansible_collections.platter.qemu.tests.lab.zygote import Zygote

pytestmark = pytest.mark.xdist_group("guest")
Count = t.Callable[[str, int], None]
LAYOUT = Layout(slots=64)
#: what the module says to QEMU, and hears from it: it is killed before it does
CALLS = ("sendto", "recvfrom")
#: how often at each point in a soak
ROUNDS = int(os.environ.get("ROUNDS", "3"))
STEPS = [*share(TAKES, 1, "guest takes"), *share(MERGES, 3, "guest merges")]


class World:
    """A disk of the guest in three layers, with a writer on it. C(moments): the last numbers that a snapshot may hold."""

    def __init__(self, disk: Layered, guest: Guest, writer: Writer) -> None:
        self.disk = disk
        self.task = disk.task(**disk.step.task)
        self.moments: dict[str, range] = {}
        self._guest = guest
        self._writer = writer
        for name in ("s1", "s2"):
            before = writer.goes_on()
            disk.take(name)
            self.moments[name] = range(before, self._most())
        self._begun = writer.goes_on()

    def _most(self) -> int:
        """One more may be on the disk than the writer knows of."""
        return self._writer.written() + 2

    def goes_on(self) -> None:
        """The guest works as before."""
        assert self._guest.process.poll() is None
        self._writer.goes_on()

    def converges(self) -> t.Any:
        """The next run ends what was begun, and further ones have nothing to do; what the last one tells."""
        again = call("image_snapshot", **self.task)
        assert not again.get("failed"), again["msg"]
        if "state" not in self.task:
            self.moments[self.task["name"]] = range(self._begun, self._most())
        for check in (False, True):
            settled = call("image_snapshot", check=check, **self.task)
            assert not settled.get("failed") and (settled["changed"], settled["actions"]) == (False, []), settled
        assert self._guest.monitor.execute("query-jobs") == []
        self.goes_on()
        return settled["snapshot"]

    def digest(self, device: str) -> str:
        """Of what the guest reads of its disk once nothing is written any more."""
        self._writer.stop()
        return self._guest.run(f"echo 3 >/proc/sys/vm/drop_caches; md5sum {device}").split()[0]

    def judge(self, told: t.Any, digest: str) -> None:
        """When QEMU has closed the files: what QEMU's own programs read of the disk and of each snapshot."""
        active = told["active"]
        assert hashlib.md5(guest_bytes(active, "qcow2")).hexdigest() == digest
        assert written_up_to(active, "qcow2", LAYOUT) - self._writer.last in (0, 1)
        for point in told["snapshots"]:
            path, more = (point["path"], ()) if "path" in point else (active, ("-l", f"snapshot.name={point['name']}"))
            assert written_up_to(path, "qcow2", LAYOUT, *more) in self.moments[point["name"]], point
        for path in self.disk.images.iterdir():
            sound(path)
        if self.disk.step.switch == "symlink":
            assert str(self.disk.named.resolve()) == active


@contextlib.contextmanager
def world(step: Step, directory: Path, guest: Guest) -> t.Iterator[World]:
    """While the block runs; afterwards the next run must end what it left, and what is in the files is judged."""
    disk = Layered(step, directory, guest.qmp, LAYOUT.size)
    with plugged(guest, Disk(disk.first)) as devices, writing(guest, LAYOUT, *devices) as writer:
        made = World(disk, guest, writer)
        yield made
        made.goes_on()
        told = made.converges()
        digest = made.digest(devices[0])
    made.judge(told, digest)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_killed_between_two_messages_while_the_guest_writes(
    step: Step, zygote: Zygote, place: Path, guest: Guest, count: Count
) -> None:
    with world(step, place / "undisturbed", guest) as made:
        points = kills.points_of(zygote, made.task, place / "undisturbed.log", CALLS)
    expected = names(made.disk.images)
    chosen = share(points, 1, "guest " + step.name) * amount(1, ROUNDS)
    killed = 0
    for number, point in enumerate(chosen):
        try:
            with world(step, place / str(number), guest) as made:
                killed += kills.killed_at(zygote, made.task, place / "log", point)
            assert names(made.disk.images) == expected
        except AssertionError as exc:
            raise AssertionError(f"{step.name} killed at {point}: {exc}") from exc
        shutil.rmtree(place / str(number))
    count("kills of tasks beside a writing guest", killed)
