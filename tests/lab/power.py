"""VMs that are started and stopped: guests of one sector, and whether anything of a VM is left."""

from __future__ import annotations

import contextlib
import os
import signal
import typing as t
import uuid
from pathlib import Path

from ansible_collections.platter.qemu.plugins.module_utils._power import places
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_places
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.programs import wait_until

#: no guest without a sector to boot from hears anything: SeaBIOS then waits for one
QUIET = ["-accel", "tcg", "-m", "16", "-nodefaults", "-no-user-config"]
#: ports of power management, where SeaBIOS puts them: status, what is enabled, control
_STATUS, _ENABLE, _CONTROL = 0x600, 0x602, 0x604
_BUTTON, _OFF = 0x0100, 0x2000


def _out(port: int, value: int) -> bytes:
    """mov dx, port; mov ax, value; out dx, ax."""
    return b"\xba" + port.to_bytes(2, "little") + b"\xb8" + value.to_bytes(2, "little") + b"\xef"


def _sector(code: bytes) -> bytes:
    return code.ljust(510, b"\0") + b"\x55\xaa"


#: sti; hlt; mov dx, status; in ax, dx; test ah, 1; jz back
_WAIT = b"\xfb\xf4\xba" + _STATUS.to_bytes(2, "little") + b"\xed\xf6\xc4\x01\x74\xf5"
#: powers down when the button is pressed
HEARS = _sector(_out(_ENABLE, _BUTTON) + _WAIT + _out(_CONTROL, _OFF) + b"\xf4\xeb\xfd")
#: powers down by itself, after some ticks of the clock (18 in a second): sti; mov cx, 54; hlt; loop back
ENDS = _sector(b"\xfb\xb9\x36\x00\xf4\xe2\xfd" + _out(_CONTROL, _OFF) + b"\xf4\xeb\xfd")


class Vm:
    """One that is defined. C(told): the options of the module that name it."""

    def __init__(self, directory: Path, sector: bytes | None, *arguments: str) -> None:
        self.name = "test-" + uuid.uuid4().hex[:12]
        self.config = str(directory / "vms" / self.name)
        self.arguments = [*QUIET, *arguments]
        self.told: dict[str, t.Any] = {"vm": self.name, "config": self.config, "start_timeout": 120}
        self.sector = directory / f"{self.name}.raw"
        self.sector.write_bytes(sector or bytes(512))
        self.define()

    def define(self, *arguments: str) -> None:
        """With further arguments."""
        image = {"path": str(self.sector), "format": "raw"}
        drive = {"id": "disk", "image": image, "device": "ide-hd"}
        prepared(
            "qemu_drive",
            vm=self.name,
            config=self.config,
            drives=[drive],
            arguments=[*self.arguments, *arguments],
            validate="none",
        )

    @property
    def socket(self) -> str:
        """Of its monitor."""
        return f"{own_places.socket_directory()}/{self.name}.qmp"

    def call(self, state: str, **more: t.Any) -> dict[str, t.Any]:
        """The result of the module, a failed one too."""
        return call("qemu_vm", **{**self.told, "state": state, **more})

    def prepared(self, state: str, **more: t.Any) -> dict[str, t.Any]:
        """The same, which must not fail."""
        return prepared("qemu_vm", **{**self.told, "state": state, **more})

    def processes(self) -> list[int]:
        """Every process with its name in the command line: QEMU, and what watches over it."""
        return list(self._command_lines())

    def _command_lines(self) -> dict[int, str]:
        """By the number of the process. All is read once: any of them may end meanwhile."""
        found = {}
        for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
                ours = "supervise.py" in " ".join(words[:5]) or Path(words[0]).name in ("qemu-system-x86_64", "sh")
                if ours and any(self.name in word for word in words):
                    found[pid] = " ".join(words)
        return found

    def qemu(self) -> int:
        """Its QEMU."""
        found = self.qemus()
        assert len(found) == 1, found
        return found[0]

    def qemus(self) -> list[int]:
        """None between a crash and the next start."""
        return [pid for pid, words in self._command_lines().items() if "supervise.py" not in words]

    def supervisor(self) -> int:
        """What watches over it."""
        return next(pid for pid, words in self._command_lines().items() if "supervise.py" in words)

    def leftovers(self) -> list[str]:
        """What is there of it besides its definition."""
        named = [path for path in (Path(self.socket), Path(places.directory_of(self.name))) if os.path.lexists(path)]
        return [f"process {pid}" for pid in self.processes()] + [str(path) for path in named]

    def end(self) -> None:
        """Whatever it does."""
        for kind in ("supervise.py", ""):
            for pid, words in self._command_lines().items():
                with contextlib.suppress(ProcessLookupError):
                    if kind in words:
                        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.processes(), "it has ended")
        told = self.call("absent")
        assert not told.get("failed") and not self.leftovers(), (told.get("msg"), self.leftovers())


@contextlib.contextmanager
def defined(directory: Path, sector: bytes | None = HEARS, *arguments: str) -> t.Iterator[Vm]:
    """A VM while the block runs; nothing of it runs after that."""
    vm = Vm(directory, sector, *arguments)
    try:
        yield vm
    finally:
        vm.end()
