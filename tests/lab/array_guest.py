"""A guest whose kernel has NBD and md, and that reaches NBD servers on this machine's loopback."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Any, Iterator

from ansible_collections.platter.qemu.tests.lab.cpio import Archive
from ansible_collections.platter.qemu.tests.lab.guest_modules import PROGRAM, add_modules, ask
from ansible_collections.platter.qemu.tests.lab.initramfs import add_program, basis
from ansible_collections.platter.qemu.tests.lab.vm import CLOCK, Guest

KERNEL = ("nbd", "raid1", "raid10", "raid456", "unix_diag", "virtio_net", "af_packet")
PROGRAMS = ("mdadm", "prlimit", "setpriv", "blkid")
NETWORK = "ip link set lo up; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0"
ANOTHER = "; ip link set eth{0} up; ip addr add 10.0.{1}.15/24 dev eth{0}"
SERVER = f"(PATH=/usr/bin:/usr/sbin:/bin:/sbin python3 -I -S {PROGRAM} >/run/modules.log 2>&1 &)"


@functools.lru_cache(maxsize=None)
def root() -> bytes:
    """The first and only root file system."""
    return archive_of("host_device", "md_array", "md_keeper").content()


def archive_of(*modules: str) -> Archive:
    """What such a guest has, and modules of these names; without any there is no user but what the caller adds."""
    archive = basis(KERNEL)
    for name in PROGRAMS:
        add_program(archive, name, f"/usr/sbin/{name}")
    if modules:
        add_modules(archive, *modules, packages="_[!elnsv]*")
        archive.file("/etc/passwd", b"root:x:0:0::/:/bin/sh\n", 0o644)
    archive.file("/etc/group", b"root:x:0:\n", 0o644)
    for name in ("/var/lib", "/etc/platter.qemu"):
        archive.directory(name)
    return archive


class ArrayGuest(Guest):
    """Runs modules as a play would."""

    def call(self, module: str, **options: Any) -> dict[str, Any]:
        """The result of a module in the guest, a failed one too."""
        return ask(self, module, **options)

    @staticmethod
    def host(number: int) -> str:
        """This machine's loopback, as the guest sees it by its network of that number."""
        return f"10.0.{2 + number}.2"

    def cut(self, number: int) -> None:
        """The network of that number: nothing comes through, and nobody is told."""
        self.monitor.execute("set_link", {"name": f"net{number}", "up": False})

    def mend(self, number: int) -> None:
        """It is there again."""
        self.monitor.execute("set_link", {"name": f"net{number}", "up": True})


def _nic(number: int) -> tuple[str, ...]:
    net = f"user,id=net{number},net=10.0.{2 + number}.0/24,host={ArrayGuest.host(number)},restrict=off"
    return ("-netdev", net, "-device", f"virtio-net-pci,netdev=net{number}")


@contextlib.contextmanager
def running_arrays(directory: Path, networks: int = 1) -> Iterator[ArrayGuest]:
    """A guest that has come up, with so many networks, of its own host only."""
    nics = tuple(option for number in range(networks) for option in _nic(number))
    guest = ArrayGuest(directory, (), False, ("-m", "512", *nics), root(), CLOCK)
    try:
        guest.boot()
        guest.run(NETWORK + "".join(ANOTHER.format(each, 2 + each) for each in range(1, networks)))
        guest.run(SERVER)
        yield guest
    finally:
        guest.end()
