# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What is so: what the kernel has attached (DeviceState); and what was read beside it to decide (DeviceReading)."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass


@dataclass(frozen=True)
class Attached:
    """How a disk is attached. C(kind): loop; fuse, a loop device on a file that a server of QEMU's shows; or nbd, the
    kernel's own client of a server. C(source): the image, or an export's URI. C(length): bytes that the device has.

    C(sector_size) None, C(device) empty: whatever it is. C(argv): the command line of our server. C(alive): the server
    is there.
    """

    kind: str
    source: str
    format: str
    offset: int
    limit: int
    length: int
    read_only: bool
    direct_io: bool = False
    sector_size: t.Optional[int] = None
    device: str = ""
    argv: t.Tuple[str, ...] = ()
    alive: bool = True
    #: seconds after which the kernel gives up a read or write; 0: never
    io_timeout: int = 0


@dataclass(frozen=True)
class DeviceState:
    """The managed part. C(attached) None: there is no such device. C(linked): the link of its name leads to it; of a
    device that is not there: there is such a link. C(left): there is something of a server, and no device.
    """

    name: str
    attached: t.Optional[Attached] = None
    linked: bool = False
    left: bool = False

    def to_facts(self, link: str) -> t.Dict[str, t.Any]:
        """The state as results and diffs show it. C(link): where its link is."""
        facts: t.Dict[str, t.Any] = {"name": self.name, "state": "absent" if self.attached is None else "present"}
        if self.attached is None:
            return facts
        seen = self.attached
        facts.update(kind=seen.kind, source=seen.source, format=seen.format, size=seen.length)
        facts.update(read_only=seen.read_only, offset=seen.offset, direct_io=seen.direct_io)
        if seen.sector_size is not None:
            facts["sector_size"] = seen.sector_size
        if seen.io_timeout:
            facts["io_timeout"] = seen.io_timeout
        if not seen.alive:
            facts["broken"] = True
        facts["link" if self.linked else "unlinked"] = link if self.linked else True
        return facts


class Partition(t.NamedTuple):
    """A partition as the kernel has it; C(start), C(size) in bytes."""

    number: int
    path: str
    start: int
    size: int

    def to_facts(self) -> t.Dict[str, t.Any]:
        """As results show it."""
        return self._asdict()


class Content(t.NamedTuple):
    """Something that is recognised on a disk. C(type) as blkid calls it, or the format of an image."""

    type: str
    uuid: str = ""
    label: str = ""

    def to_facts(self) -> t.Dict[str, t.Any]:
        """As results show it."""
        return {"type": self.type, "uuid": self.uuid or None, "label": self.label or None}

    def __str__(self) -> str:
        named = (self.type, self.label and '"%s"' % self.label, self.uuid and "UUID %s" % self.uuid)
        return " ".join(part for part in named if part)


@dataclass(frozen=True)
class DeviceReading:
    """Facts that decide but are not managed.

    C(paths): the kernel's devices of that name (more than one only where somebody else has called one so); C(backing):
    the file behind the first, as the kernel names it; C(partitions) of it. C(servers): the processes that serve it;
    C(stopped): one of them is stopped. C(taken): what is attached to the device that the task asks for.
    C(directory): of the server, C(program): its path, empty where it is not installed; C(fuse), C(nbd): the kernel has
    that. C(how): as what the disk is to be attached (C(kind)).
    The rest is about the source: C(target) is the file behind its name, or the URI; C(kind) of file, or export; C(stamp)
    what tells whether it was written to, C(length) the bytes of the disk, C(contents) what is recognised in the part that
    is attached, None: it was not looked at. C(problem): (reason, fact, way out, evidence) of what is wrong with it.
    """

    paths: t.Tuple[str, ...] = ()
    backing: str = ""
    partitions: t.Tuple[Partition, ...] = ()
    servers: t.Tuple[int, ...] = ()
    stopped: bool = False
    taken: str = ""
    directory: str = ""
    program: str = ""
    fuse: bool = True
    nbd: bool = False
    how: str = "loop"
    target: str = ""
    kind: str = "absent"
    stamp: t.Tuple[int, int, int, int] = (0, 0, 0, 0)
    length: int = 0
    contents: t.Optional[t.Tuple[Content, ...]] = None
    problem: t.Optional[t.Tuple[str, str, str, t.Mapping[str, t.Any]]] = None
    block: bool = False
