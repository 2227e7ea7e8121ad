# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""The mount table, and which file systems cannot be trusted to carry locks between hosts."""

from __future__ import annotations

import os
import re
import typing as t
from dataclasses import dataclass

#: Locks there may be local to this host, or not exist: another host's QEMU is invisible.
_NETWORK = frozenset(
    (
        *("9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "fuse", "glusterfs", "gpfs", "lustre", "ncpfs"),
        *("nfs", "nfs4", "orangefs", "prl_fs", "smb3", "smbfs", "vboxsf", "virtiofs"),
    )
)
_ESCAPE = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One line of C(/proc/PID/mountinfo)."""

    device: int  # as in st_dev; btrfs and other multi-device file systems have an anonymous one here
    mount_point: str
    fstype: str
    source: str
    writable: bool

    @property
    def networked(self) -> bool:
        """Whether the file system is shared with other hosts, or served by a program."""
        return self.fstype in _NETWORK or self.fstype.startswith("fuse.")


def unescape(field: bytes) -> str:
    """A field of C(mountinfo) or C(/proc/swaps), where the kernel writes a space as C(\\040)."""
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes([int(match.group(1), 8)]), field))


def read_mounts(pid: str = "self") -> list[Mount]:
    """All mounts that process C(pid) sees; none when it is gone or not ours to look at."""
    try:
        with open(f"/proc/{pid}/mountinfo", "rb") as table:
            return [_parse(line.split()) for line in table]
    except OSError:
        return []


def _parse(fields: list[bytes]) -> Mount:
    major, minor = fields[2].split(b":")
    after = fields.index(b"-", 6)
    return Mount(
        device=os.makedev(int(major), int(minor)),
        mount_point=unescape(fields[4]),
        fstype=unescape(fields[after + 1]),
        source=unescape(fields[after + 2]),
        writable=b"ro" not in fields[5].split(b",") and b"ro" not in fields[after + 3].split(b","),
    )


def mount_of(path: str, mounts: t.Sequence[Mount]) -> Mount | None:
    """The mount that C(path), or the directory it would be made in, lies on. Touches nothing below the mount point."""
    real, best = os.path.realpath(path), None
    for mount in mounts:  # of mounts on one point, the last covers the others
        inside = (real + "/").startswith(mount.mount_point.rstrip("/") + "/")
        if inside and (best is None or len(mount.mount_point) >= len(best.mount_point)):
            best = mount
    return best


def network_filesystem(path: str) -> str | None:
    """The type of the file system of C(path) where its locks cannot be trusted (nfs, cifs, fuse.*), else None."""
    mount = mount_of(path, read_mounts())
    return mount.fstype if mount and mount.networked else None
