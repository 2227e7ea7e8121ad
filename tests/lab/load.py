"""What a guest does while a test changes its disks, and how long it stood still meanwhile."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Any, Iterator

from ansible_collections.platter.qemu.tests.lab.sequence import Layout
from ansible_collections.platter.qemu.tests.lab.vm import Guest

#: milliseconds; shorter gaps between two ticks are not written down
LEAST = 5
_START = "python3 -I -S /{0}.py {1} >/run/{0}.log 2>&1 & echo $! >/run/{0}.pid"
_STOP = "kill $(cat /run/{0}.pid) 2>/dev/null; while kill -0 $(cat /run/{0}.pid) 2>/dev/null; do usleep 10000; done"


class Writer:
    """The program that writes the sequence to one disk or several."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        #: known after C(stop)
        self.last = 0

    def written(self) -> int:
        """The last number of which it knows that it is on every disk."""
        return int(self._guest.run("cat /run/written 2>/dev/null || true").strip() or 0)

    def goes_on(self) -> int:
        """Wait until it has written another block; its number, or a later one."""
        before = self.written()
        self._guest.wait(lambda: self.written() > before, "the writer goes on")
        return self.written()

    def stop(self) -> int:
        """End it; the last number it knows of. One more may be on the disk."""
        self._guest.run(_STOP.format("writer"))
        self.last = self.written()
        return self.last


@contextlib.contextmanager
def writing(guest: Guest, layout: Layout, *targets: str) -> Iterator[Writer]:
    """A writer on these disks of the guest, from its first block on until it is stopped or the block ends."""
    guest.run("rm -f /run/written")
    guest.run(_START.format("writer", f"{layout.slots} {layout.spacing} {' '.join(targets)}"))
    writer = Writer(guest)
    try:
        guest.wait(lambda: writer.written() > 0, "the writer writes")
        yield writer
    finally:
        if guest.process.poll() is None:
            writer.stop()


@contextlib.contextmanager
def mounted(guest: Guest, name: str) -> Iterator[None]:
    """A new ext4 on a disk of the guest, on C(/mnt) while the block runs."""
    guest.run(f"/sbin/mke2fs -q -t ext4 -O has_journal {name} && mount -t ext4 {name} /mnt")
    try:
        yield
    finally:
        guest.run("umount /mnt")


@dataclass
class Pauses:
    """Milliseconds. C(longest): between two ticks, by the guest's clock, which stands still while the VM is stopped;
    C(stopped): how long that was, by QEMU's events.
    """

    longest: int = 0
    stopped: int = 0


@contextlib.contextmanager
def pauses(guest: Guest) -> Iterator[Pauses]:
    """Measures while the block runs; the result is there after it."""
    guest.run(f"[ -e /run/meter.pid ] || {{ {_START.format('meter', LEAST)}; }}")
    guest.wait(lambda: guest.run("[ -e /run/gaps ] && echo yes || true"), "the meter ticks")
    guest.monitor.forget_events()
    seen, begin = Pauses(), _now(guest)
    yield seen
    end = _now(guest)
    gaps = [tuple(map(int, line.split())) for line in guest.run("cat /run/gaps").splitlines()]
    seen.longest = max((gap for at, gap in gaps if at >= begin and at - gap <= end), default=0)
    seen.stopped = _stopped(guest)


def _now(guest: Guest) -> int:
    """Milliseconds since the guest started, as the meter counts them."""
    return int(float(guest.run("cut -d' ' -f1 /proc/uptime")) * 1000)


def _stopped(guest: Guest) -> int:
    total = 0
    while stop := guest.monitor.wait_event(["STOP"], time.monotonic()):
        resume = guest.monitor.wait_event(["RESUME"], time.monotonic())
        assert resume, "the VM was stopped and did not go on"
        total += _milliseconds(resume) - _milliseconds(stop)
    return total


def _milliseconds(event: dict[str, Any]) -> int:
    at = event["timestamp"]
    return int(at["seconds"] * 1000 + at["microseconds"] // 1000)
