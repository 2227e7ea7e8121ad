"""A QEMU that has disks, whose CPUs stand still: what a guest would write and read is written and read through QEMU."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
from pathlib import Path
from typing import Any, Iterator

from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE, running, wait_for_monitor, wait_until
from ansible_collections.platter.qemu.tests.lab.qemu import qcow2

#: unbuffered, as what its qemu-io command prints must come at once
_QEMU = ("stdbuf", "-o0", "qemu-system-x86_64", "-M", "q35", "-S", "-nodefaults", "-display", "none", "-accel", "tcg")


class Machine:
    """One running QEMU with the disks C(d0), C(d1), ..., and its QMP socket."""

    def __init__(self, process: subprocess.Popen[bytes], socket: Path) -> None:
        self.process = process
        assert process.stdout
        self._output = process.stdout.fileno()
        self.socket = socket

    def qmp(self, command: str, **arguments: Any) -> Any:
        """One command's answer; C(_) in names means C(-)."""
        with Qmp.connect(str(self.socket), DEADLINE) as session:
            return session.execute(command, {name.replace("_", "-"): value for name, value in arguments.items()})

    def _io(self, disk: int, command: str, said: str) -> str:
        """What QEMU prints of a command of its built-in qemu-io: on its standard output, not to the monitor."""
        self.qmp("human-monitor-command", **{"command-line": f'qemu-io -d {_backend(disk)} "{command}"'})
        found = b""

        def ended() -> bool:
            nonlocal found
            found += os.read(self._output, 4096) if select.select([self._output], [], [], 0)[0] else b""
            return said.encode() in found

        wait_until(ended, f"QEMU says {said!r} to {command!r}")
        return found.decode()

    def write(self, pattern: int, offset: int, disk: int = 0, *, length: str = "64k", flushed: bool = True) -> None:
        """One byte over and over, 64 KiB at an offset in MiB, and a flush, as a guest does it."""
        self._io(disk, f"write -P {pattern} {offset}M {length}", "ops; ")
        if flushed:
            self.qmp("human-monitor-command", **{"command-line": f'qemu-io -d {_backend(disk)} "flush"'})

    def shows(self, pattern: int, offset: int, disk: int = 0) -> bool:
        """Whether a guest would read 64 KiB of that byte there."""
        return "verification failed" not in self._io(disk, f"read -P {pattern} {offset}M 64k", "ops; ")

    def active(self, disk: int = 0) -> str:
        """The file that the disk is in, by QEMU's own account."""
        found = next(each for each in self.qmp("query-block") if each["qdev"] == _backend(disk))
        name = str(found["inserted"]["file"])
        return str(json.loads(name[5:])["file"]["filename"]) if name.startswith("json:") else name

    def bitmaps(self, disk: int = 0) -> dict[str, bool]:
        """The persistent bitmaps of the disk, and whether they record."""
        found = next(each for each in self.qmp("query-block") if each["qdev"] == _backend(disk))
        seen = found["inserted"].get("dirty-bitmaps", [])
        return {each["name"]: each["recording"] for each in seen if each["persistent"]}

    def jobs(self) -> list[str]:
        """The ids of all jobs that there are."""
        return [each["id"] for each in self.qmp("query-jobs")]

    def end(self) -> None:
        """As if the VM was shut down."""
        with contextlib.suppress(Exception):
            self.qmp("quit")
        self.process.wait(DEADLINE)


def _backend(disk: int) -> str:
    return f"/machine/peripheral/d{disk}/virtio-backend"


def _where(number: int, disk: object, legacy: bool) -> list[str]:
    return ["-drive", f"if=none,id=n{number},format=qcow2,file={disk}"] if legacy else qcow2(f"n{number}", disk)


@contextlib.contextmanager
def machine(socket: Path, *disks: object, legacy: bool = False, monitor: tuple[str, ...] = ()) -> Iterator[Machine]:
    """A QEMU with these qcow2 images as its disks. C(legacy): by -drive, whose nodes have no names of their own.

    A disk may also be the option for its node, which is to be called C(n0), C(n1), ...
    """
    options: list[str] = []
    monitor = monitor or ("-qmp", f"unix:{socket},server=on,wait=off")
    for number, disk in enumerate(disks):
        where = disk if isinstance(disk, list) else _where(number, disk, legacy)
        options += [*where, "-device", f"virtio-blk-pci,drive=n{number},id=d{number}"]
    with running(*_QEMU, *options, *monitor) as process:
        wait_for_monitor(process, socket)
        socket.chmod(0o600)
        yield Machine(process, socket)
