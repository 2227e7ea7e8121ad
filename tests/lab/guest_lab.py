"""A VM of this machine that plays reach over ssh: systemd, NBD and md, restored from a saved state within seconds.

guest_lab.py up DIRECTORY SERVER...  has it run; DIRECTORY/ssh then is an ssh that reaches it, with DIRECTORY/key, and
                                     DIRECTORY/ports.json has a port of loopback that nobody has for each of its servers
guest_lab.py down DIRECTORY          ends it, and removes DIRECTORY
guest_lab.py holds LAST IMAGE        fails unless the leg holds, byte for byte, what the VM has written up to the number LAST

The state is made at the first call, which takes as long as a boot, and kept in ~/.cache until what it is made of changes.
A VM that nobody ends does so by itself after an hour.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Iterator

sys.path.insert(0, os.path.abspath(os.path.join(__file__, *[".."] * 6)))

from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp
from ansible_collections.platter.qemu.tests.lab.array_guest import NETWORK, archive_of
from ansible_collections.platter.qemu.tests.lab.initramfs import add_program, interpreter
from ansible_collections.platter.qemu.tests.lab.linux import kernel
from ansible_collections.platter.qemu.tests.lab.ports import free_port
from ansible_collections.platter.qemu.tests.lab.programs import listens, wait_until
from ansible_collections.platter.qemu.tests.lab.sequence import Layout
from ansible_collections.platter.qemu.tests.lab.ssh_guest import SERVER, add_ssh
from ansible_collections.platter.qemu.tests.lab.systemd_guest import SYSTEMD, add_systemd
from ansible_collections.platter.qemu.tests.lab.vm import CLOCK, KERNEL_LINE, MACHINE, WAIT_SECONDS, Guest

CACHE = Path.home() / ".cache/platter.qemu-guests"
LIFETIME = ("timeout", "--kill-after=5", "3600")
MEMORY = "768"
LAYOUT = Layout(slots=256)
#: where mdadm has the data of small disks begin
DATA = 1 << 20
SSH_UNIT = f"""
[Unit]
DefaultDependencies=no
After=basic.target
[Service]
ExecStartPre=/bin/sh -c "{NETWORK}; mkdir -p /run/sshd"
ExecStart={SERVER} -D -e
KillMode=process
"""


class LabGuest(Guest):
    """C(state): where its kernel and first file system are, and what it is restored from; it outlives us."""

    def __init__(self, directory: Path, state: Path, port: int, restored: bool) -> None:
        self._log = directory / "log"
        image, line = kernel()[0], f"{KERNEL_LINE} {CLOCK}"
        begin = (*LIFETIME, *MACHINE, "-kernel", image, "-initrd", state / "initramfs", "-append", line)
        more = ["-m", MEMORY, "-pidfile", str(directory / "pid")]
        more += ["-nic", f"user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{port}-:22"]
        more += ["-incoming", f"exec:cat {state}/state"] if restored else []
        super().__init__(directory, (), False, tuple(more), begin=begin)

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self._log.open("wb") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def resume(self) -> None:
        """As C(boot), of what has booted long ago. Its clock is set."""
        self._wait(lambda: listens(self._shell) and listens(self._watch), "QEMU has not made its sockets")
        self.monitor = self._open.enter_context(Qmp.connect(str(self._watch), WAIT_SECONDS))
        self._wait(lambda: self.monitor.execute("query-status")["status"] != "inmigrate", "the state is not read")
        self.monitor.execute("cont")  # it was saved while it stood still
        self._serial.connect(str(self._shell))
        self.run(f"date -s @{int(time.time())}")

    def end(self) -> None:
        """Also what ends it after an hour."""
        for pid in _processes(self._log.parent):
            os.kill(pid, signal.SIGKILL)
        super().end()

    def save(self, path: Path) -> None:
        """What it is now, for C(resume); it stands still then."""
        self.monitor.execute("stop")
        self.monitor.execute("migrate", {"uri": f"exec:cat >{path}"})
        wait_until(lambda: self.monitor.execute("query-migrate")["status"] == "completed", "its state is written")


def up(directory: Path, servers: list[str]) -> None:
    """Returns when its sshd answers."""
    down(directory)
    state = _state()
    directory.mkdir(mode=0o700, parents=True)
    # sockets have short names, and DIRECTORY need not
    place = Path(tempfile.mkdtemp(prefix="platter-guest."))
    (directory / "place").write_text(str(place))
    port = free_port()
    guest = LabGuest(place, state, port, restored=True)
    guest.resume()
    _write_access(directory, state, port)
    (directory / "ports.json").write_text(json.dumps({name: free_port() for name in servers}))
    wait_until(lambda: _greets(port), "its sshd answers")


def down(directory: Path) -> None:
    """Returns when nothing of it is left."""
    with contextlib.suppress(FileNotFoundError):
        place = Path((directory / "place").read_text())
        for pid in _processes(place):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not list(_processes(place)), "it ends")
        shutil.rmtree(place, ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)


def holds(last: int, image: Path) -> None:
    """Of two numbers one after the other the second may be on the disk before the VM has said so."""
    held = image.read_bytes()[DATA : DATA + LAYOUT.size]
    if held not in (LAYOUT.content(last), LAYOUT.content(last + 1)):
        raise SystemExit(f"{image} does not hold what was written up to {last}")


def _processes(place: Path) -> Iterator[int]:
    """Those whose command line has its directory in it: QEMU, and what ends it."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if int(process.name) != os.getpid() and f"{place}/pid".encode() in words:
                yield int(process.name)


def _write_access(directory: Path, state: Path, port: int) -> None:
    shutil.copy(state / "client", directory / "key")
    kind, key = (state / "host.pub").read_text().split()[:2]
    (directory / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    (directory / "ssh").write_text(f'#!/bin/sh\nexec ssh -p {port} "$@"\n')
    (directory / "ssh").chmod(0o700)


def _greets(port: int) -> bool:
    with socket.socket() as connection:
        connection.settimeout(10)
        with contextlib.suppress(OSError):
            connection.connect(("127.0.0.1", port))
            return connection.recv(4) == b"SSH-"
    return False


def _state() -> Path:
    """The directory of a saved state; made if there is none of what is here now."""
    state = CACHE / _digest()
    if state.exists():
        return state
    shutil.rmtree(CACHE, ignore_errors=True)
    CACHE.mkdir(mode=0o700, parents=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as made, tempfile.TemporaryDirectory(prefix="platter-guest.") as place:
        _make(Path(made), Path(place))
        shutil.copytree(made, state)
    return state


def _make(made: Path, place: Path) -> None:
    archive = archive_of()
    for name in ("systemctl", "journalctl", "ss"):
        add_program(archive, name, f"/usr/bin/{name}")
    add_ssh(archive, made)
    add_systemd(archive, {"ssh.service": SSH_UNIT})
    (made / "initramfs").write_bytes(archive.content())
    port = free_port()
    guest = LabGuest(place, made, port, restored=False)
    try:
        guest.boot()
        wait_until(lambda: _greets(port), "its sshd answers")
        guest.save(made / "state")
    finally:
        guest.end()


def _digest() -> str:
    """Of what it is made of: the programs by their sizes and times, what makes it by its text."""
    names = ("qemu-system-x86_64", "sshd", "mdadm", "systemctl", "busybox")
    programs = [shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin") or name for name in names]
    told = [str((path, Path(path).stat().st_size, Path(path).stat().st_mtime_ns)) for path in map(str, programs)]
    for path in (kernel()[0], interpreter(), SYSTEMD / "systemd"):
        told.append(str((path, path.stat().st_size, path.stat().st_mtime_ns)))
    told += [path.read_text() for path in sorted(Path(__file__).parent.rglob("*")) if path.suffix in (".py", ".sh")]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def main() -> None:
    """One of the verbs above."""
    verb, *rest = sys.argv[1:]
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if verb == "holds":
        holds(int(rest[0]), Path(rest[1]))
    elif verb == "up":
        up(Path(rest[0]), rest[1:])
    else:
        down(Path(rest[0]))


if __name__ == "__main__":
    main()
