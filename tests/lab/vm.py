"""A Linux guest that runs: booted in seconds under TCG, with disks that a test chose, and a way to give it commands."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterator

from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp
from ansible_collections.platter.qemu.tests.lab.initramfs import initramfs
from ansible_collections.platter.qemu.tests.lab.linux import kernel
from ansible_collections.platter.qemu.tests.lab.programs import listens

BOOT_SECONDS = 180.0
COMMAND_SECONDS = 120.0
#: until something comes about that only waiting shows, on a busy machine
WAIT_SECONDS = 180.0
READY = b"GUEST READY"
#: what the guest answers to a line of which a part was lost on the way (seen once in some 10,000: the first 14 bytes)
GARBLED = b"GARBLED\n"
#: the same of a line of which its end was lost, or all, when it is asked; and after how many seconds of silence it is.
#: It also answers (HEARD) where it has done the command, so that an answer that got stuck on its way comes with that
LOST, SILENCE = b"LOST %d\n", 15.0
#: answers to what was sent again in vain, before what a command prints
_IDLE = re.compile(rb"\A(GARBLED\n|(LOST|HEARD) \d+\n)+")
MACHINE = ("qemu-system-x86_64", "-accel", "tcg", "-machine", "pc", "-cpu", "qemu64", "-m", "192", "-smp", "1")
#: a place for disks that are plugged in while it runs
SCSI = ("-device", "virtio-scsi-pci,id=scsi")
#: what QEMU calls all guests of the tests
NAME = "lab-guest"
QUIET = ("-name", NAME, "-nodefaults", "-no-reboot", "-display", "none", "-vga", "none")
KERNEL_LINE = "console=ttyS0 panic=-1 quiet mitigations=off random.trust_cpu=on tsc=reliable no_timer_check"


#: on a busy machine Linux misjudges the emulated time stamp counter, and a second is over in no time
CLOCK = "clocksource=acpi_pm nolapic_timer"


@dataclass(frozen=True)
class Disk:
    """A virtio disk of a guest: the first one is /dev/vda there. C(legacy): by -drive, so that its nodes have no names."""

    path: Path
    name: str = "disk0"
    format: str = "qcow2"
    legacy: bool = False
    #: more for the format's node, as C({"backing": "base"})
    node: dict[str, object] = field(default_factory=dict)

    def options(self) -> list[str]:
        """QEMU's."""
        if self.legacy:
            return ["-drive", f"file={self.path},format={self.format},if=virtio,id={self.name}"]
        nodes = [option for node in self.nodes() for option in ("-blockdev", json.dumps(node))]
        return [*nodes, "-device", f"virtio-blk-pci,drive={self.name},id={self.name}-device"]

    def nodes(self) -> list[dict[str, object]]:
        """Its block nodes, the lower one first."""
        file = {"driver": "file", "node-name": f"{self.name}-file", "filename": str(self.path)}
        return [file, {"driver": self.format, "node-name": self.name, "file": file["node-name"], **self.node}]


class Guest:
    """A guest that has booted. C(qmp), C(agent): the sockets for the module; C(monitor): the test's own QMP session.

    C(begin): how its command begins, with machine, memory and kernel; by default with those of our own.
    """

    def __init__(
        self,
        directory: Path,
        disks: tuple[Disk, ...],
        agent: bool = True,
        options: tuple[str, ...] = (),
        root: bytes | None = None,
        line: str = "",
        begin: tuple[object, ...] = (),
    ) -> None:
        self.qmp, self.agent, self._watch = (directory / name for name in ("qmp", "agent", "watch"))
        self.disks = disks
        self._console, self._shell = directory / "console", directory / "shell"
        self._number = 0
        self._open = contextlib.ExitStack()
        self._serial = self._open.enter_context(socket.socket(socket.AF_UNIX))
        command = [*(begin or own_kernel(directory, root or initramfs(), line)), *QUIET, *SCSI]
        command += ["-serial", f"file:{self._console}", "-serial", f"unix:{self._shell},server=on,wait=off"]
        command += [*_monitor(self.qmp), *_monitor(self._watch), *(_agent(self.agent) if agent else ()), *options]
        command += [option for disk in disks for option in disk.options()]
        self.process = self._start([str(part) for part in command])

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def boot(self) -> None:
        """Wait until it takes commands."""
        self._wait(lambda: listens(self._shell), "QEMU has not made its sockets")
        self._serial.connect(str(self._shell))
        self._wait(lambda: READY in self._console.read_bytes(), "the guest has not booted")
        for path in (self.qmp, self.agent):
            if path.exists():
                path.chmod(0o600)
        self.monitor = self._open.enter_context(Qmp.connect(str(self._watch), WAIT_SECONDS))

    def _wait(self, fact: Callable[[], object], trouble: str) -> None:
        end = time.monotonic() + BOOT_SECONDS
        while not fact():
            assert self.process.poll() is None and time.monotonic() < end, f"{trouble}:\n{self.console()[-2000:]}"
            time.sleep(0.02)

    def console(self) -> str:
        """What its kernel and first program have said."""
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    def run(self, command: str, timeout: float = COMMAND_SECONDS) -> str:
        """A shell command in the guest, which must succeed; what it printed."""
        self._number += 1
        self.send(line(self._number, command))
        return self.answer(self._number, command, time.monotonic() + timeout)

    def send(self, text: bytes) -> None:
        """To the guest's shell."""
        self._serial.sendall(text)

    def answer(self, number: int, command: str, deadline: float) -> str:
        """What the command of that number, which was sent, printed. It is sent again if it has not come whole."""
        end, said = re.compile(rb"END %d (\d+)\n" % number), b""
        while True:
            if said.endswith((GARBLED, LOST % number)):
                self.send(line(number, command))
                said = b""
            part = self._hear(deadline)
            assert part or (part is None and time.monotonic() < deadline), (
                f"no answer to: {command}\n{said!r}\n{self.console()[-1000:]}"
            )
            if part is None:
                self.send(b"\n? %d\n" % number)
                continue
            said += part
            found = end.search(said)
            if found:
                text = _IDLE.sub(b"", said[: found.start()]).decode(errors="replace")
                assert found.group(1) == b"0", f"{command}\n{text}"
                return text

    def _hear(self, deadline: float) -> bytes | None:
        """What comes next from the guest's shell; nothing when QEMU has ended, None when nothing comes for a while."""
        self._serial.settimeout(max(0.01, min(SILENCE, deadline - time.monotonic())))
        try:
            return self._serial.recv(65536)
        except TimeoutError:
            return None

    def wait(self, fact: Callable[[], object], what: str, seconds: float = WAIT_SECONDS) -> None:
        """Until it is so in the guest."""
        end = time.monotonic() + seconds
        while not fact():
            assert time.monotonic() < end, f"{what}\n{self.run('cat /run/*.log')}"
            time.sleep(0.05)

    def power_off(self) -> None:
        """Let the guest write out what it has, and wait until QEMU has ended."""
        self.send(line(0, "sync; poweroff -f"))
        self.process.wait(BOOT_SECONDS)

    def end(self) -> None:
        """Whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(COMMAND_SECONDS)
        self._open.close()


def own_kernel(directory: Path, root: bytes, line: str = "") -> tuple[object, ...]:
    """The machine, and the kernel with C(root) as its first file system, which is written into the directory."""
    (directory / "initramfs").write_bytes(root)
    boot = ("-kernel", kernel()[0], "-initrd", directory / "initramfs", "-append", f"{KERNEL_LINE} {line}")
    return (*MACHINE, *boot)


def _monitor(path: Path) -> tuple[str, ...]:
    return ("-qmp", f"unix:{path},server=on,wait=off")


def _agent(path: Path) -> tuple[str, ...]:
    port = "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"
    return (
        "-device",
        "virtio-serial-pci",
        "-chardev",
        f"socket,id=agent,path={path},server=on,wait=off",
        "-device",
        port,
    )


@contextlib.contextmanager
def running_guest(directory: Path, *disks: Disk, agent: bool = True, options: tuple[str, ...] = ()) -> Iterator[Guest]:
    """A guest that has booted with these disks; ended with the block. C(directory): for its sockets and logs."""
    guest = Guest(directory, disks, agent, options)
    try:
        guest.boot()
        yield guest
    finally:
        guest.end()


def line(number: int, command: str) -> bytes:
    """A command as the guest's shell reads it, which can tell that it has come whole."""
    told = base64.b64encode(command.encode()).decode()
    return f"{number} {len(told)} {told} {number}\n".encode()
