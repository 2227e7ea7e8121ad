# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a task asks of one block device of the host."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._core import nbd_uri

#: in C(identity.signature), for a disk on which nothing is recognised
NOTHING = "none"


@dataclass(frozen=True)
class Identity:
    """What a disk must be to be attached. C(size) in bytes; C(uuid) of one of the things on it; C(signature): the types
    of all of them, as blkid calls them; with C(none) among them, all of them or nothing; empty: not asked.
    """

    size: t.Optional[int] = None
    uuid: t.Optional[str] = None
    signature: t.Tuple[str, ...] = ()

    @property
    def names_content(self) -> bool:
        """Whether it says what is on the disk."""
        return bool(self.signature) or self.uuid is not None


@dataclass(frozen=True)
class DeviceSpec:
    """One device. C(name): its identity on this host; C(named): the task has given it. C(source), an image's path or an
    export's URI, and C(format) are None only where C(state) is absent. C(address): of an export.

    C(device): the path of the device to use, or C(auto). C(offset), C(size): the window of the disk that is attached, in
    bytes; C(size) None: to its end. C(sector_size): bytes of a logical sector, None: as it comes. C(timeout): seconds
    that the kernel gets for each step. C(io_timeout): seconds after which reads and writes fail that a server does not
    answer; 0: they wait.
    """

    name: str
    named: bool = True
    source: t.Optional[str] = None
    format: t.Optional[str] = None
    state: str = "present"
    device: str = "auto"
    read_only: bool = True
    offset: int = 0
    size: t.Optional[int] = None
    sector_size: t.Optional[int] = None
    direct_io: bool = False
    identity: Identity = Identity()
    overlay_directories: t.Tuple[str, ...] = ()
    timeout: float = 30.0
    address: t.Optional[nbd_uri.Address] = None
    certificates: str = ""
    psk_file: str = ""
    hostname: str = ""
    username: str = ""
    io_timeout: int = 0

    @property
    def mark(self) -> str:
        """What the kernel's device is called by, for others to see and for later runs to find it."""
        return mark_of(self.name)


def mark_of(name: str) -> str:
    """The mark of the device of that name."""
    return "platter:" + name
