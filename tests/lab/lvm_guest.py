"""A guest with LVM, udev and QEMU that plays reach over ssh: a host whose VMs have logical volumes."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Iterator

from ansible_collections.platter.qemu.tests.lab.array_guest import NETWORK
from ansible_collections.platter.qemu.tests.lab.device_guest import START_UDEV, add_udev
from ansible_collections.platter.qemu.tests.lab.guest_modules import add_modules
from ansible_collections.platter.qemu.tests.lab.initramfs import add_program, basis
from ansible_collections.platter.qemu.tests.lab.ports import free_port
from ansible_collections.platter.qemu.tests.lab.ssh_guest import SERVER, SshGuest, add_ssh
from ansible_collections.platter.qemu.tests.lab.systemd_guest import add_qemu
from ansible_collections.platter.qemu.tests.lab.vm import CLOCK, Disk

KERNEL = ("dm_mod", "dm_snapshot", "dm_thin_pool", "unix_diag", "virtio_net", "af_packet")
PROGRAMS = ("lvm", "dmsetup", "qemu-img", "qemu-io", "prlimit", "setpriv")
#: the volume group on its disk
GROUP = "vg0"
#: thin_check is of another package, and looks for damage that no test does
CONFIG = b"""
global { thin_check_executable = "" }
activation { monitoring = 0 }
backup { backup = 0 archive = 0 }
"""


@contextlib.contextmanager
def running_lvm(directory: Path, disk: Disk, *modules: str) -> Iterator[SshGuest]:
    """A guest that has come up, with an empty volume group on the disk. C(modules): what its server of modules is to run,
    which is not started yet.
    """
    archive = basis(KERNEL)
    for name in PROGRAMS:
        add_program(archive, name, f"/sbin/{name}")
    add_udev(archive)
    add_qemu(archive)
    add_modules(archive, *modules, packages="_[cdfilmtv]*")
    add_ssh(archive, directory)
    archive.file("/etc/group", b"root:x:0:\ndisk:x:6:\n", 0o644)
    archive.file("/etc/lvm/lvm.conf", CONFIG, 0o644)
    for name in ("/srv", "/var/lib"):
        archive.directory(name)
    port = free_port()
    nic = ("-nic", f"user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{port}-:22")
    guest = SshGuest(directory, (disk,), False, ("-m", "1024", *nic), archive.content(), CLOCK)
    guest.port, guest.key = port, directory / "client"
    try:
        guest.boot()
        guest.run(f"{NETWORK}; mkdir -p /run/sshd; {SERVER} -E /run/sshd.log; {START_UDEV}")
        guest.run(f"lvm vgcreate -q {GROUP} /dev/vda")
        yield guest
    finally:
        guest.end()
