"""kill -9 of the server that a drive is on, while a guest writes a known sequence to it."""

from __future__ import annotations

import contextlib
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._vm import places
from ansible_collections.platter.qemu.tests.lab.amounts import amount
from ansible_collections.platter.qemu.tests.lab.load import writing
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.programs import exported
from ansible_collections.platter.qemu.tests.lab.sequence import Layout, written_up_to
from ansible_collections.platter.qemu.tests.lab.vm import NAME, Guest

pytestmark = pytest.mark.xdist_group("guest")
Count = t.Callable[[str, int], None]
LAYOUT = Layout(slots=64)
DISK = "/dev/vda"
READ = f"dd if={DISK} of=/dev/null count=1 iflag=direct 2>/dev/null && echo read || true"
#: what C(writer.py) ends with when its disk says no
FAILED = "Input/output error"


class Server:
    """Of an image, as a process that can die."""

    def __init__(self, image: Path, format: str, socket: Path) -> None:
        self.image, self.format, self.socket = image, format, socket
        self._running = contextlib.ExitStack()
        self._process: t.Any = None

    def start(self) -> None:
        """Unless it runs."""
        if self._process is None:
            self._process = self._running.enter_context(exported(self.image, self.format, self.socket))

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self.end()

    def end(self) -> None:
        """Whether or not it runs."""
        self._running.close()
        self._process = None


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of this test only; so are the links to all VMs."""
    monkeypatch.setattr(places, "registry", lambda: str(tmp_path / "registry"))
    (tmp_path / "vms").mkdir()
    return tmp_path


@contextlib.contextmanager
def plugged(guest: Guest, place: Path, format: str, **settings: t.Any) -> t.Iterator[Server]:
    """The server of a disk that the guest has as DISK while the block runs; qemu_drive plugs it in and out."""
    server = Server(create(place / "image", format, LAYOUT.size), format, place / "nbd")
    node = {"driver": "nbd", "server": {"type": "unix", "path": str(server.socket)}}
    drive = {"id": "far", "image": {"blockdev": node}, "device": "virtio-blk-pci", **settings}
    vm = {"vm": NAME, "config": str(place / "vms" / NAME), "qmp_socket": str(guest.qmp), "unplug_timeout": 120}
    with contextlib.ExitStack() as undo:
        undo.callback(server.end)
        server.start()
        plug = call("qemu_drive", **dict(vm, drives=[drive]))
        assert plug["changed"] and {each["what"] for each in plug["live"]["needs_restart"]} == {"boot"}, plug
        undo.callback(call, "qemu_drive", **dict(vm, drives=[{"id": "far", "state": "absent"}]))
        undo.callback(server.start)
        guest.wait(lambda: "vda" in guest.run("ls /sys/block").split(), "the guest has its disk")
        yield server


def log(guest: Guest) -> str:
    """What the writer has said."""
    return guest.run("cat /run/writer.log")


@pytest.mark.parametrize(("format", "cache"), [("raw", "writeback"), ("qcow2", "writethrough")])
def test_a_server_that_is_killed_and_comes_again_costs_time_only(
    guest: Guest, place: Path, format: str, cache: str, count: Count
) -> None:
    """A server of C(qcow2) keeps tables in its memory; with C(writethrough) it has written them when it says so."""
    guest.run("dmesg -c >/dev/null")
    rounds = amount(3, 30)
    with plugged(guest, place, format, reconnect_delay=600, cache=cache) as server:
        with writing(guest, LAYOUT, DISK) as writer:
            for _round in range(rounds):
                writer.goes_on()
                server.kill()
                server.start()
            writer.goes_on()
            known = writer.stop()
        assert (log(guest), guest.run("dmesg | grep -i error || true")) == ("", "")
    assert written_up_to(server.image, format, LAYOUT) - known in (0, 1)
    count("kills of a server under a guest", rounds)


def test_without_a_delay_the_guest_sees_the_server_die_and_has_its_disk_again_after_that(
    guest: Guest, place: Path
) -> None:
    with plugged(guest, place, "raw") as server:
        with writing(guest, LAYOUT, DISK) as writer:
            server.kill()
            guest.wait(lambda: FAILED in log(guest), "the guest's writer has failed")
            known = writer.written()
        server.start()
        guest.wait(lambda: guest.run(READ) == "read\n", "the guest reads its disk again")
    assert written_up_to(server.image, "raw", LAYOUT) - known in (0, 1)
