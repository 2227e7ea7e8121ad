"""A guest whose kernel has NBD, and that can run host_device."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Any, Iterator

from ansible_collections.platter.qemu.tests.lab.cpio import Archive
from ansible_collections.platter.qemu.tests.lab.guest_modules import PROGRAM, add_modules, ask
from ansible_collections.platter.qemu.tests.lab.initramfs import add_program, basis
from ansible_collections.platter.qemu.tests.lab.vm import CLOCK, Guest

PROGRAMS = ("qemu-storage-daemon", "qemu-nbd", "qemu-img", "qemu-io", "prlimit", "setpriv", "partx", "sfdisk", "blkid")


UDEV = "/usr/lib/systemd/systemd-udevd"
RULES = Path("/usr/lib/udev/rules.d")
START_UDEV = f"{UDEV} --daemon && udevadm trigger && udevadm settle"


@functools.lru_cache(maxsize=None)
def root() -> bytes:
    """The first and only root file system."""
    archive = basis(("nbd", "loop", "fuse", "unix_diag"))
    for name in PROGRAMS:
        add_program(archive, name, f"/usr/bin/{name}")
    add_modules(archive, "host_device", "disk_image")
    archive.file("/etc/passwd", b"root:x:0:0::/:/bin/sh\n", 0o644)
    archive.file("/etc/group", b"root:x:0:\n", 0o644)
    add_udev(archive)
    for name in ("/images", "/var/lib"):
        archive.directory(name)
    return archive.content()


def add_udev(archive: Archive) -> None:
    """Not started, with the rules of all packages of this machine."""
    add_program(archive, "udevadm", "/bin/udevadm")
    archive.link(UDEV, "/bin/udevadm")
    for rules in RULES.glob("*.rules"):
        archive.file(str(rules), rules.read_bytes(), 0o644)


class DeviceGuest(Guest):
    """Runs the module as a play would."""

    def call(self, **options: Any) -> dict[str, Any]:
        """The result of C(host_device) in the guest, a failed one too."""
        return ask(self, "host_device", **options)

    @contextlib.contextmanager
    def udev(self) -> Iterator[None]:
        """While the block runs, udev looks at each new device, and again whenever a writer closes it."""
        self.run(START_UDEV)
        try:
            yield
        finally:
            self.run("udevadm settle; udevadm control --exit")


@contextlib.contextmanager
def running_devices(directory: Path) -> Iterator[DeviceGuest]:
    """A guest that has come up, with a network of its own host only."""
    guest = DeviceGuest(directory, (), False, ("-m", "768"), root(), CLOCK)
    try:
        guest.boot()
        guest.run(
            f"ip link set lo up; (PATH=/usr/bin:/usr/sbin:/bin:/sbin python3 -I -S {PROGRAM} >/run/modules.log 2>&1 &)"
        )
        yield guest
    finally:
        guest.end()
