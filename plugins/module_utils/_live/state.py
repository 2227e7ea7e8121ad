# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a running QEMU has of drives, as far as it tells. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Device, Object, Options

#: in the environment of a QEMU that a definition's program has started: how many of its words, from the first option on, are
#: of that definition and not about drives. What the caller of the program has added comes behind them.
GENERAL_ARGUMENTS = "PLATTER_GENERAL_ARGUMENTS"


@dataclass(frozen=True)
class Medium:
    """What a device is on: a graph of nodes. C(node): the uppermost one; C(names): those of the graph that somebody gave a
    name, from the top down, which are to be deleted one by one; those that QEMU named go with them.

    C(driver): of the uppermost node that is no filter. C(file): where its data is (C(image.place)). C(options): those of
    that node that QEMU tells, without defaults. C(mark): stands for what QEMU does not tell (C(image.mark)); empty where it
    is unknown. C(group): of a throttle filter. C(below): the places that its backing chain is on.
    C(format_node), C(children): that node, and what is below it by role; C(size), C(host_size): bytes, as QEMU and as the
    host has it (0: unknown). These are no part of the state, nor is the order of C(names).
    """

    node: str
    names: t.Tuple[str, ...] = field(compare=False)
    driver: str
    file: str
    options: Options = ()
    mark: str = ""
    group: str = ""
    copy_on_read: bool = False
    below: t.Tuple[str, ...] = field(default=(), compare=False)
    format_node: str = field(default="", compare=False)
    children: t.Tuple[t.Tuple[str, str], ...] = field(default=(), compare=False)
    size: int = field(default=0, compare=False)
    host_size: int = field(default=0, compare=False)


@dataclass(frozen=True)
class LiveController:
    """C(properties): those that were asked for. C(bus): empty where it was not asked for."""

    device: str
    id: str
    properties: Options = ()
    bus: str = field(default="", compare=False)


@dataclass(frozen=True)
class LiveDrive:
    """C(id): of its C(-drive), else of its device, else of its uppermost node. C(device): QEMU's name of its kind, empty where
    no device uses it. C(properties): those of the device that were asked for. C(limits), C(group): of the device itself,
    as C(-drive) and C(block_set_io_throttle) have them.

    C(tray_open): of a CD drive, with its medium still in; the guest sees none then.
    C(path): of the device among QEMU's objects. C(qdev): by which commands about its medium know it. C(fixed): why it cannot
    be unplugged; empty where it can. C(bus): empty where it was not asked for. C(legacy): C(-drive) has made it, and no node
    can have its name. C(first): the device as QEMU was started with it, of a drive that was there then; C(snapshot): what the
    guest writes is thrown away.
    """

    id: str
    device: str = ""
    device_id: str = ""
    medium: t.Optional[Medium] = None
    properties: Options = ()
    limits: Options = ()
    group: str = ""
    tray_open: bool = False
    removable: bool = field(default=False, compare=False)
    bus: str = field(default="", compare=False)
    path: str = field(default="", compare=False)
    qdev: str = field(default="", compare=False)
    fixed: str = field(default="", compare=False)
    legacy: bool = field(default=False, compare=False)
    first: t.Optional[Device] = field(default=None, compare=False)
    snapshot: bool = field(default=False, compare=False)


class Idle(t.NamedTuple):
    """Nodes that nobody uses: neither a device, nor an export, nor a job. C(names): from the top down."""

    root: str
    names: t.Tuple[str, ...]


@dataclass(frozen=True)
class LiveState:
    """C(controllers): devices with ids that drives can be plugged into. C(objects): of limits only those that are set, of
    others the properties that were asked for. C(nodes): the names that nodes were given. C(machine): as in C(DrivesSpec).

    C(ports): the buses of PCI Express ports that nothing is plugged into, asked for where something has to be;
    C(all_ports): of all. C(shared): the nodes of their own that are wanted, each as a drive of its name without a device.
    C(words): what QEMU was started with, its program first; C(general): how many words behind that were a definition's, about
    other things than drives (-1: unknown). These are no part of the state.
    """

    machine: str
    drives: t.Tuple[LiveDrive, ...] = ()
    controllers: t.Tuple[LiveController, ...] = ()
    objects: t.Tuple[Object, ...] = ()
    idle: t.Tuple[Idle, ...] = ()
    nodes: t.FrozenSet[str] = frozenset()
    ports: t.Tuple[str, ...] = field(default=(), compare=False)
    all_ports: t.FrozenSet[str] = field(default=frozenset(), compare=False)
    shared: t.Tuple[LiveDrive, ...] = field(default=(), compare=False)
    words: t.Tuple[str, ...] = field(default=(), compare=False)
    general: int = field(default=-1, compare=False)

    def object(self, name: str) -> t.Optional[Object]:
        """The object of that id."""
        return next((each for each in self.objects if each.id == name), None)

    def drive(self, name: str) -> LiveDrive:
        """The drive of that id."""
        return next(each for each in self.drives if each.id == name)

    def with_drive(self, drive: LiveDrive) -> LiveState:
        """With one more, or with another one of its id."""
        others = [each for each in self.drives if each.id != drive.id]
        return replace(self, drives=by_id([*others, drive]))

    def with_nodes(self, names: t.Iterable[str]) -> LiveState:
        """With nodes of these names."""
        return replace(self, nodes=self.nodes.union(names))

    def without_nodes(self, names: t.Iterable[str]) -> LiveState:
        """Without them."""
        return replace(self, nodes=self.nodes.difference(names))

    def with_objects(self, objects: t.Iterable[Object]) -> LiveState:
        """With more, or with others of their ids."""
        known = {each.id: each for each in (*self.objects, *objects)}
        return replace(self, objects=tuple(sorted(known.values(), key=lambda each: each.id)))


def by_id(drives: t.Iterable[LiveDrive]) -> t.Tuple[LiveDrive, ...]:
    """The one order of drives in a state."""
    return tuple(sorted(drives, key=lambda each: each.id))
