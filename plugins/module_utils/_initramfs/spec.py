# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a task asks of the first file system of a VM: where its root lies, and how it gets there. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

NBD_RAID, NFS = "nbd_raid", "nfs"
#: what the kernel needs for each root, besides what C(filesystem) and C(level) name
_MODULES = {
    "9p": ("9pnet_virtio", "9p"),
    "virtiofs": ("virtiofs",),
    NFS: ("nfs", "nfsv4"),
    NBD_RAID: ("nbd",),
}
_OF_LEVEL = {"raid1": "raid1", "raid5": "raid456", "raid10": "raid10"}
#: taken where the kernel has them: a machine has the buses and cards that it has. The first is asked for by name only
USUAL = ("crc32c_generic", "virtio_pci", "virtio_mmio", "virtio_net")


@dataclass(frozen=True)
class Leg:
    """An NBD export that a RAID array lies on. C(host): an IPv4 address."""

    host: str
    port: int
    export: str


@dataclass(frozen=True)
class Root:
    """Where the root file system comes from. C(source): the tag of a share, or C(address:/path) of NFS. C(options): of its
    mount, behind our own. C(init): its first program.

    Of an array over NBD: C(uuid), C(level), C(legs), C(filesystem) on it; C(io_timeout): seconds after which a leg is given
    up whose server answers nothing; C(start_degraded): once waited in vain, start it without legs that may be newer.
    """

    kind: str
    source: str = ""
    options: str = ""
    read_only: bool = False
    init: str = "/sbin/init"
    uuid: str = ""
    level: str = "raid1"
    filesystem: str = "ext4"
    legs: t.Tuple[Leg, ...] = ()
    io_timeout: int = 10
    start_degraded: bool = False

    @property
    def modules(self) -> t.Tuple[str, ...]:
        """The kernel modules without which it cannot be mounted."""
        own = (_OF_LEVEL[self.level], self.filesystem) if self.kind == NBD_RAID else ()
        return _MODULES[self.kind] + own

    @property
    def needs_network(self) -> bool:
        """Whether it comes over the network."""
        return self.kind in (NFS, NBD_RAID)


@dataclass(frozen=True)
class Network:
    """C(address): C(dhcp), C(none), or an address with its prefix. C(interface): empty for the first there is."""

    address: str = "none"
    gateway: str = ""
    interface: str = ""


@dataclass(frozen=True)
class InitramfsSpec:
    """C(modules_directory): of one kernel, named after its release. C(modules): more of them. C(wait): seconds until the
    guest gives up. C(root) None: there is to be no such file.
    """

    path: str
    root: t.Optional[Root] = None
    network: Network = Network()
    modules_directory: str = ""
    modules: t.Tuple[str, ...] = ()
    wait: int = 120

    @property
    def release(self) -> str:
        """Of the kernel that can boot it."""
        return self.modules_directory.rpartition("/")[2]

    @property
    def needed_modules(self) -> t.Tuple[str, ...]:
        """The kernel modules that must be there."""
        root = self.root.modules if self.root else ()
        dhcp = ("af_packet",) if self.network.address == "dhcp" else ()
        return (*root, *dhcp, *self.modules)

    @property
    def programs(self) -> t.Tuple[str, ...]:
        """The programs of the host that go into it."""
        legs = ("mdadm", "nbd-client") if self.root and self.root.kind == NBD_RAID else ()
        return ("busybox", *legs)
