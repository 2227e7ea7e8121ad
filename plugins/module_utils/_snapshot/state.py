# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What is so: the snapshots, layers and bitmaps of an image (SnapshotState), and what was read beside them to decide
(SnapshotReading).
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.platter.qemu.plugins.module_utils._core import moment, size
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header


@dataclass(frozen=True)
class Point:
    """One snapshot.

    C(content) tells what it holds: two that are equal hold the same bytes for certain; None cannot be told.
    C(virtual_size) in bytes. C(path): the file that is the point, of an external one; else C(id) is its number in the
    image. C(merging): a merge of this point was begun and not ended, so that its file holds no point any more.
    C(altered): others have written to its file since it was taken.
    C(date): when it was taken, seconds since 1970; None when that is not known, as of one that is to be taken.
    C(vm_state_size): bytes of a VM's memory in it; None, of one that is to be taken with it. Neither is managed, and
    so neither is compared.
    """

    name: str
    id: str = ""
    content: t.Optional[str] = None
    virtual_size: int = 0
    path: t.Optional[str] = None
    merging: bool = False
    altered: bool = False
    date: t.Optional[float] = field(default=None, compare=False)
    vm_state_size: t.Optional[int] = field(default=0, compare=False)

    def managed(self) -> t.Dict[str, t.Any]:
        """As diffs show it: what can be predicted."""
        facts: t.Dict[str, t.Any] = {"name": self.name, **({"path": self.path} if self.path else {"id": self.id})}
        if self.merging:
            facts["merging"] = True
        if self.altered:
            facts["altered"] = True
        return dict(facts, virtual_size=self.virtual_size)

    def to_facts(self) -> t.Dict[str, t.Any]:
        """As results show it."""
        memory = {} if self.path else {"vm_state_size": self.vm_state_size}
        return dict(self.managed(), **memory, **moment.dated(self.date))


@dataclass(frozen=True)
class BitmapState:
    """One persistent dirty bitmap. C(granularity) in bytes. C(in_use): not written back by whoever had it open last."""

    name: str
    enabled: bool
    granularity: int
    in_use: bool = False

    def to_facts(self) -> t.Dict[str, t.Any]:
        """As results show it."""
        facts = {"name": self.name, "enabled": self.enabled, "granularity": self.granularity}
        return dict(facts, inconsistent=True) if self.in_use else facts


@dataclass(frozen=True)
class SnapshotState:
    """The managed part: points oldest first, the content of now, the file the disk is in now, and the bitmaps in it.

    C(layers): external only, the files from the lowest point's up to the active one. C(link): where the image's name
    leads, when it is a symbolic link. C(seen) false: it was refused before that was known.
    """

    image: str
    kind: str
    active: str = ""
    link: t.Optional[str] = None
    virtual_size: int = 0
    content: t.Optional[str] = None
    points: t.Tuple[Point, ...] = ()
    layers: t.Tuple[str, ...] = ()
    bitmaps: t.Tuple[BitmapState, ...] = ()
    seen: bool = True

    def point(self, name: t.Optional[str]) -> t.Optional[Point]:
        """The point of that name, which is the only one (observation refuses others)."""
        return next((point for point in self.points if point.name == name), None)

    @property
    def names(self) -> t.List[str]:
        """The names of all points, oldest first."""
        return [point.name for point in self.points]

    def in_no_order(self) -> SnapshotState:
        """The same for a comparison: of a point that is still to be taken nobody knows whether others have later dates."""
        return replace(
            self, points=tuple(sorted(self.points, key=lambda point: (point.name, point.id, point.path or "")))
        )

    def untold(self) -> SnapshotState:
        """The same, with nothing said of contents: what a running QEMU has of an image is not all in its file."""
        return replace(self, content=None, points=tuple(replace(point, content=None) for point in self.points))

    def to_facts(self) -> t.Dict[str, t.Any]:
        """The state as results show it."""
        facts = self.managed()
        return dict(facts, snapshots=[point.to_facts() for point in self.points]) if self.seen else facts

    def managed(self) -> t.Dict[str, t.Any]:
        """The state as diffs show it: the same in check mode and after the real run."""
        facts: t.Dict[str, t.Any] = {"image": self.image, "kind": self.kind}
        if not self.seen:
            return facts
        facts["active"] = self.active
        facts["virtual_size"] = self.virtual_size
        facts["snapshots"] = [point.managed() for point in self.points]
        facts["same_as"] = [p.name for p in self.points if p.content == self.content and p.content is not None]
        if self.kind == "external":
            facts["layers"] = list(self.layers)
        facts["bitmaps"] = [bitmap.to_facts() for bitmap in self.bitmaps]
        return facts


@dataclass(frozen=True)
class Amount:
    """Bytes of data; C(at_most): it may be fewer."""

    bytes: int = 0
    at_most: bool = False

    def plus(self, other: Amount) -> Amount:
        """Both together."""
        return Amount(self.bytes + other.bytes, self.at_most or other.at_most)

    def __str__(self) -> str:
        return "%s%s" % ("at most " if self.at_most else "", size.human(self.bytes))


@dataclass(frozen=True)
class Layer:
    """A file of the family of images that an external snapshot belongs to.

    C(variant): its compat or subformat, if its header tells that. C(base): the file it is built on, resolved.
    C(children): every image that is built on it, also of others.
    C(data): what the file itself holds, where somebody asked; C(empty): nothing, and its base has the same size.
    C(merging): the overlay that is being copied into it; C(copied): all of that is in it; C(told): a running QEMU was told
    to leave that; C(merged): nobody needs the overlay any more; C(forked): both were written to since it was. C(names): how
    many the file has. C(point): the snapshot that it is, by our record; C(retired): it was one, and stays for what is on it.
    C(streamed): the point that a killed run has copied up into it and not removed; C(lowest): that was the lowest of the disk.
    C(stamp): (device, inode, size, time of the last write), None when not known; C(frozen): the last two of these when the
    file became a point, by our record.
    """

    path: str
    format: str
    virtual_size: int
    base: t.Optional[str] = None
    base_format: t.Optional[str] = None
    children: t.Tuple[str, ...] = ()
    data: Amount = Amount()
    empty: bool = False
    point: t.Optional[str] = None
    merging: t.Optional[str] = None
    copied: bool = False
    told: bool = False
    merged: bool = False
    forked: bool = False
    retired: bool = False
    names: int = 1
    variant: str = ""
    streamed: t.Optional[str] = None
    lowest: bool = False
    bitmaps: t.Tuple[BitmapState, ...] = ()
    snapshots: t.Tuple[str, ...] = ()
    stamp: t.Optional[t.Tuple[int, int, int, int]] = None
    frozen: t.Optional[t.Tuple[t.Any, t.Any]] = None

    @property
    def beside(self) -> str:
        """What the file has beside its data, as a part of a sentence."""
        kinds = (("internal snapshots", self.snapshots), ("dirty bitmaps", [bitmap.name for bitmap in self.bitmaps]))
        return " and ".join("%s %s" % (kind, ", ".join(names)) for kind, names in kinds if names)

    @property
    def altered(self) -> bool:
        """Whether others have written to it since it became a point."""
        if self.frozen is None or self.stamp is None or self.merging is not None:
            return False
        return self.frozen != self.stamp[2:]


@dataclass(frozen=True)
class Live:
    """An image in a running QEMU. C(active): the file that its guest writes to; C(node): that file's node; C(top): that
    one, or the uppermost filter of it; C(nodes): the nodes of its whole chain, by file as we know it, lowest
    first (of an image with internal snapshots only its own); C(used): whether a device or an export uses that
    disk; C(pids): the processes behind the socket; C(bitmaps): of the active node;
    C(disks): file and node of every disk of the VM that can be written to; C(jobs): (C(commit) or C(stream), the file
    that is written to), of merges that a killed run has begun.
    """

    socket: str
    pids: t.FrozenSet[int]
    active: str
    node: str
    top: str
    nodes: t.Mapping[str, str]
    used: bool = True
    bitmaps: t.Tuple[BitmapState, ...] = ()
    disks: t.Tuple[t.Tuple[str, str], ...] = ()
    jobs: t.Tuple[t.Tuple[str, str], ...] = ()


@dataclass(frozen=True)
class SnapshotReading:
    """Facts that decide but are not managed. C(now): the clock of this host.

    C(live): the QEMU that has the image open, when the task's socket reaches it. C(layers): the family of an external
    image, by path.
    C(named): the file that the task's image is. C(switch): what the task that made the active layer said of it, if known.
    C(other_kind): the names of its snapshots that are not of the task's kind.
    C(taken_names): file names in the image's directory, without other names of the image itself.
    C(missing_directory): there is no directory for the overlay that the task names.
    C(unused): empty overlays on the active layer that a killed run has left; they are not in C(layers).
    """

    header: t.Optional[Header] = None
    identity: t.Tuple[int, int] = (0, 0)
    kind: str = "absent"
    detected: t.Tuple[str, ...] = ()
    chain_problem: t.Optional[t.Tuple[str, str]] = None
    now: float = 0.0
    layers: t.Mapping[str, Layer] = field(default_factory=dict)
    named: str = ""
    switch: t.Optional[str] = None
    other_kind: t.Tuple[str, ...] = ()
    taken_names: t.FrozenSet[str] = frozenset()
    missing_directory: bool = False
    unused: t.Tuple[Layer, ...] = ()
    #: the snapshots of the other disks whose memory and contents go together with this one's
    names_beside: t.FrozenSet[str] = frozenset()
    #: what the file lacks of the image (Header.shortage)
    shortage: str = ""
    live: t.Optional[Live] = None
    #: the QEMU that has to end first: the rest is what the image is then, and nothing is done while it is there
    to_end: t.Optional[Live] = None
