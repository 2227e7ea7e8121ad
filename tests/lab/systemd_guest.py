"""A guest whose first program is this machine's systemd, and that can run modules of the collection.

systemd is never started on this machine itself, in no namespace either: it would clear up what is not its.
"""

from __future__ import annotations

import contextlib
import functools
import subprocess
from pathlib import Path
from typing import Any, Iterator, Mapping

import pytest

from ansible_collections.platter.qemu.tests.lab.cpio import Archive
from ansible_collections.platter.qemu.tests.lab.guest_modules import add_modules, ask
from ansible_collections.platter.qemu.tests.lab.initramfs import add_executable, add_program, basis, interpreter
from ansible_collections.platter.qemu.tests.lab.vm import CLOCK, Disk, Guest

#: the disk of the guest lies here, with the administrator's units on it, so that they are there at the next boot
DISK = Path("/disk")
SYSTEMD = Path("/usr/lib/systemd")
PROGRAMS = (
    *("prlimit", "setpriv", "systemctl", "systemd-analyze", "journalctl", "ss"),
    *("qemu-nbd", "qemu-img", "qemu-io", "qemu-storage-daemon", "nbdkit"),
)
NBDKIT = ("plugindir file plugin", "filterdir limit filter", "filterdir exportname filter", "filterdir cow filter")
DAEMONS = ("systemd", "systemd-journald", "systemd-shutdown", "systemd-executor")
UNITS = """
    basic.target sysinit.target multi-user.target slices.target sockets.target paths.target timers.target local-fs.target
    local-fs-pre.target shutdown.target umount.target final.target reboot.target systemd-reboot.service network.target
    network-online.target systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket -.slice
"""
SHELL_UNIT = """
[Unit]
DefaultDependencies=no
After=basic.target
[Service]
ExecStart=/bin/sh /shell.sh
KillMode=process
"""
SERVER_UNIT = """
[Unit]
DefaultDependencies=no
After=basic.target
[Service]
ExecStart=%s -I -S /modules.py
Environment=PATH=/usr/bin:/usr/sbin:/bin:/sbin
"""


@functools.lru_cache(maxsize=None)
def root(vms: bool = False, modules: tuple[str, ...] = ("nbd_export",)) -> bytes:
    """The first and only root file system, with C(modules). C(vms): with what starts VMs in it, instead of those."""
    archive = basis(("unix_diag", "loop"))
    for name in PROGRAMS:
        add_program(archive, name, f"/usr/bin/{name}")
    _add_nbdkit(archive)
    add_systemd(archive, {"modules.service": SERVER_UNIT % interpreter()})
    add_modules(archive, *(("qemu_drive", "qemu_vm") if vms else modules))
    if vms:
        add_qemu(archive)
    archive.file("/etc/passwd", b"root:x:0:0::/:/bin/sh\n", 0o644)
    archive.directory(str(DISK))
    return archive.content()


def add_systemd(archive: Archive, services: Mapping[str, str]) -> None:
    """With a service for the test's own commands, and those of these names."""
    if not (SYSTEMD / "systemd").exists():
        pytest.fail("systemd is not installed")
    for name in DAEMONS:
        if (SYSTEMD / name).exists():
            add_executable(archive, SYSTEMD / name, str(SYSTEMD / name))
    for name in UNITS.split():
        if (SYSTEMD / "system" / name).exists():
            archive.file(str(SYSTEMD / "system" / name), (SYSTEMD / "system" / name).read_bytes(), 0o644)
    archive.link(str(SYSTEMD / "system/default.target"), "multi-user.target")
    for name, text in {"shell.service": SHELL_UNIT, **services}.items():
        archive.file(str(SYSTEMD / "system" / name), text.encode(), 0o644)
        archive.link(str(SYSTEMD / "system/multi-user.target.wants" / name), f"../{name}")
    archive.link(str(SYSTEMD / "system/sysinit.target.wants/systemd-journald.service"), "../systemd-journald.service")
    archive.file("/etc/group", b"root:x:0:\n", 0o644)
    archive.file("/etc/machine-id", b"0123456789abcdef0123456789abcdef\n", 0o644)
    archive.link("/lib/systemd", str(SYSTEMD))
    for name in ("/etc/systemd/system", "/var/log", "/var/lib", "/var/tmp"):
        archive.directory(name)


def add_qemu(archive: Archive) -> None:
    """With its firmware, and the part of it that Debian has in a file of its own."""
    add_program(archive, "qemu-system-x86_64", "/usr/bin/qemu-system-x86_64")
    told = subprocess.run(["qemu-system-x86_64", "-L", "help"], capture_output=True, text=True, check=True).stdout
    found = [Path(line, name) for line in told.splitlines() for name in ("bios-256k.bin", "kvmvapic.bin")]
    for path in filter(Path.exists, found):
        archive.file(str(path), path.read_bytes())
    for path in Path("/usr").glob("lib*/**/qemu/accel-tcg-x86_64.so"):
        add_executable(archive, path, str(path))


def _add_nbdkit(archive: Archive) -> None:
    """What it loads when it runs."""
    told = subprocess.run(["nbdkit", "--dump-config"], capture_output=True, text=True, check=True).stdout
    where = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
    for directory, name, kind in map(str.split, NBDKIT):
        path = Path(where[directory], f"nbdkit-{name}-{kind}.so")
        add_executable(archive, path, str(path))


class SystemdGuest(Guest):
    """Can call the module as a play would, with no option of ours."""

    def call(
        self, *, check: bool = False, environment: Mapping[str, str] | None = None, **options: Any
    ) -> dict[str, Any]:
        """The result of C(nbd_export) in the guest, a failed one too."""
        options.setdefault("supervisor", "auto")
        return ask(self, "nbd_export", check=check, environment=environment, **options)

    def show(self, name: str, *properties: str) -> list[str]:
        """What systemctl says of the unit of an export."""
        told = self.run(f"systemctl show -p {','.join(properties)} -- platter-nbd-{name}.service").splitlines()
        values = dict(line.split("=", 1) for line in told)
        return [values[each] for each in properties]

    def server_of(self, name: str) -> int:
        """The process that serves it."""
        return int(self.show(name, "MainPID")[0])

    def listens(self, path: str) -> bool:
        """Whether anybody does, as ss(8) sees it."""
        return f" {path} " in self.run("ss -Hlx")


def make_disk(path: Path, content: Path) -> Disk:
    """A file system with what is in C(content)."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "raw", path, "192M"], check=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", content, path], check=True)
    return Disk(path, format="raw")


@contextlib.contextmanager
def running_systemd(
    directory: Path, disk: Disk, vms: bool = False, modules: tuple[str, ...] = ("nbd_export",)
) -> Iterator[SystemdGuest]:
    """A guest that has come up; it is cut off at the end of the block. C(vms): VMs can be started in it, else it can run
    C(modules).
    """
    directory.mkdir()
    guest = SystemdGuest(directory, (disk,), False, ("-m", "1024" if vms else "768"), root(vms, modules), CLOCK)
    try:
        guest.boot()
        yield guest
    finally:
        guest.end()
