# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What is done to a running QEMU, each step with its effect. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from ansible_collections.platter.qemu.plugins.module_utils._core.plan import Action
from ansible_collections.platter.qemu.plugins.module_utils._drive import definitions, nodes
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Device, Drive, Node, Object, Options
from ansible_collections.platter.qemu.plugins.module_utils._live import foretell
from ansible_collections.platter.qemu.plugins.module_utils._live.state import Idle, LiveDrive, LiveState, by_id


class LiveAction(Action[LiveState]):
    """One step."""


@dataclass(frozen=True)
class ClearNodes(LiveAction):
    """C(why): where they come from."""

    idle: Idle
    why: str

    def apply(self, state: LiveState) -> LiveState:
        left = tuple(each for each in state.idle if each != self.idle)
        return replace(state, idle=left).without_nodes(self.idle.names)

    def __str__(self) -> str:
        return "Remove the unused nodes of %s, %s." % (self.idle.root, self.why)


@dataclass(frozen=True)
class UnplugDrive(LiveAction):
    """C(names): of nodes that go with it. C(objects): ids of those that do, unless others use them. C(port): is free then."""

    live: LiveDrive
    names: t.Tuple[str, ...] = ()
    objects: t.Tuple[str, ...] = ()
    port: str = ""

    def apply(self, state: LiveState) -> LiveState:
        return replace(
            state,
            drives=tuple(each for each in state.drives if each.id != self.live.id),
            objects=tuple(each for each in state.objects if each.id not in self.objects),
            ports=(*state.ports, *([self.port] if self.port else [])),  # the last that is taken: the guest may keep it
        ).without_nodes(self.names)

    def __str__(self) -> str:
        return "Unplug %s." % self.live.id


@dataclass(frozen=True)
class AddObject(LiveAction):
    """An iothread, a secret, a throttle group."""

    object: Object

    def apply(self, state: LiveState) -> LiveState:
        return state.with_objects([foretell.live_object(self.object)])

    def __str__(self) -> str:
        return "Add the %s %s." % (self.object.kind, self.object.id)


@dataclass(frozen=True)
class AddNode(LiveAction):
    """A node that more than one drive is on, or that is described apart."""

    node: Node

    def apply(self, state: LiveState) -> LiveState:
        names = (self.node.name, *(each.name for each in definitions.separate(self.node)))
        return replace(state, idle=(*state.idle, Idle(self.node.name, names))).with_nodes(names)

    def __str__(self) -> str:
        return "Add the node %s." % self.node.name


@dataclass(frozen=True)
class PlugController(LiveAction):
    """C(bus): that was chosen for it."""

    device: Device

    def apply(self, state: LiveState) -> LiveState:
        known = sorted([*state.controllers, foretell.controller(self.device)], key=lambda each: each.id)
        ports = tuple(each for each in state.ports if each != self.device.bus)
        return replace(state, controllers=tuple(known), ports=ports)

    def __str__(self) -> str:
        return "Plug in the controller %s (%s)." % (self.device.id, self.device.device)


@dataclass(frozen=True)
class PlugDrive(LiveAction):
    """C(objects): that it needs and that are not there. C(bus): chosen for it, where the drive names none."""

    drive: Drive
    bus: str = ""
    objects: t.Tuple[Object, ...] = ()

    def apply(self, state: LiveState) -> LiveState:
        plugged = foretell.drive(self.drive, self.bus)
        ports = tuple(each for each in state.ports if each != plugged.bus)
        added = [foretell.live_object(each) for each in self.objects]
        state = state.with_nodes(plugged.medium.names if plugged.medium is not None else ())
        if self.drive.frontend is None and plugged.medium is not None:
            state = replace(state, idle=(*state.idle, Idle(self.drive.id, plugged.medium.names)))
        else:
            state = state.with_drive(plugged)
        return replace(state.with_objects(added), ports=ports)

    def definitions(self) -> t.List[definitions.Definition]:
        """All that has to be added, in order."""
        found = [definitions.Definition("object", definitions.object_tree(each)) for each in self.objects]
        found += node_definitions(self.drive)
        device = self.drive.frontend
        if device is not None:
            placed = replace(device, bus=self.bus or device.bus, id=foretell.device_id(self.drive))
            found.append(definitions.frontend(placed, self.drive.id if self.drive.backend is not None else ""))
        return found

    def __str__(self) -> str:
        device = self.drive.frontend
        if device is None:
            return "Add the nodes of %s." % self.drive.id
        return "Plug in %s (%s)." % (self.drive.id, device.device)


def node_definitions(drive: Drive, legacy: bool = False) -> t.List[definitions.Definition]:
    """The nodes of a drive, the uppermost last."""
    graph = foretell.graph(drive, legacy)
    return definitions_of_node(graph) if graph is not None else []


def definitions_of_node(node: Node) -> t.List[definitions.Definition]:
    """The nodes of a graph, the uppermost last."""
    return [definitions.Definition("blockdev", nodes.to_tree(each)) for each in (*definitions.separate(node), node)]


@dataclass(frozen=True)
class ChangeMedium(LiveAction):
    """C(drive): as it will be; without an image, the drive is empty then. C(objects): as in C(PlugDrive)."""

    live: LiveDrive
    drive: Drive
    objects: t.Tuple[Object, ...] = ()

    def apply(self, state: LiveState) -> LiveState:
        before, after = state.drive(self.live.id), foretell.medium(self.drive, self.live.legacy)
        state = state.without_nodes(before.medium.names if before.medium is not None else ())
        state = state.with_nodes(after.names if after is not None else ())
        added = [foretell.live_object(each) for each in self.objects]
        return state.with_drive(replace(before, medium=after, tray_open=False)).with_objects(added)

    def __str__(self) -> str:
        after = foretell.medium(self.drive)
        if after is None:
            return "Take the medium out of %s." % self.live.id
        return "Put %s into %s." % (after.file, self.live.id)


@dataclass(frozen=True)
class CloseTray(LiveAction):
    """A run that was cut off, or the guest, has left it open."""

    live: LiveDrive

    def apply(self, state: LiveState) -> LiveState:
        return state.with_drive(replace(state.drive(self.live.id), tray_open=False))

    def __str__(self) -> str:
        return "Close the tray of %s." % self.live.id


@dataclass(frozen=True)
class SetGroupLimits(LiveAction):
    """Of a throttle group that is an object; C(limits) empty: none any more."""

    group: str
    limits: Options

    def apply(self, state: LiveState) -> LiveState:
        return _with_limits(state, self.group, self.limits)

    def __str__(self) -> str:
        return "Set the limits of the throttle group %s: %s." % (self.group, shown(self.limits))


@dataclass(frozen=True)
class ThrottleDevice(LiveAction):
    """Of a device that has no filter; C(limits) empty: none any more, and it leaves its group."""

    live: LiveDrive
    group: str
    limits: Options

    def apply(self, state: LiveState) -> LiveState:
        now = replace(state.drive(self.live.id), group=self.group, limits=self.limits)
        return _with_limits(state.with_drive(now), self.group, self.limits)

    def __str__(self) -> str:
        return "Throttle %s: %s." % (self.live.id, shown(self.limits))


def _with_limits(state: LiveState, group: str, limits: Options) -> LiveState:
    """A group has the same limits for all that are in it, whether it is an object or not."""
    if not group:
        return state
    drives = [replace(each, limits=limits) if each.group == group else each for each in state.drives]
    known = [Object("throttle-group", group, limits)] if state.object(group) is not None else []
    return replace(state, drives=by_id(drives)).with_objects(known)


def shown(limits: Options) -> str:
    """For a sentence."""
    return ", ".join("%s %s" % (name[len("limits.") :], value) for name, value in limits) or "no limits"


@dataclass(frozen=True)
class SetBootOrder(LiveAction):
    """The places in the order in which the machine tries its drives: (drive, bootindex), -1 for none."""

    order: t.Tuple[t.Tuple[LiveDrive, int], ...]

    def apply(self, state: LiveState) -> LiveState:
        wanted = {live.id: index for live, index in self.order}
        changed = [_with_bootindex(each, wanted[each.id]) if each.id in wanted else each for each in state.drives]
        return replace(state, drives=tuple(changed))

    def __str__(self) -> str:
        return "Set the boot order, for the next start of the guest: %s." % ", ".join(
            "%s %d" % (live.id, index) for live, index in self.order
        )


def _with_bootindex(live: LiveDrive, index: int) -> LiveDrive:
    return replace(live, properties=tuple(sorted(dict(live.properties, bootindex=index).items())))


@dataclass(frozen=True)
class ReopenImage(LiveAction):
    """C(node): the node of the image as it is to be, by its name; C(options): what QEMU tells of it then."""

    live: LiveDrive
    node: Node
    options: Options

    def apply(self, state: LiveState) -> LiveState:
        now = state.drive(self.live.id)
        medium = replace(now.medium, options=self.options) if now.medium is not None else None
        return state.with_drive(replace(now, medium=medium))

    def tree(self) -> t.Dict[str, t.Any]:
        """As C(blockdev-reopen) takes it: all options, and the nodes below by their names, as they are."""
        below = self.live.medium.children if self.live.medium is not None else ()
        return nodes.to_tree(replace(self.node, children=below))

    def __str__(self) -> str:
        return "Open the image of %s again with %s." % (self.live.id, options_shown(self.options))


def options_shown(options: Options) -> str:
    """For a sentence."""
    return ", ".join("%s %s" % (name, "on" if value is True else value) for name, value in options) or "the defaults"


@dataclass(frozen=True)
class GrowDrive(LiveAction):
    """QEMU and the guest learn that the image has grown. C(size): bytes."""

    live: LiveDrive
    size: int

    def apply(self, state: LiveState) -> LiveState:
        now = state.drive(self.live.id)
        medium = replace(now.medium, size=self.size) if now.medium is not None else None
        return state.with_drive(replace(now, medium=medium))

    def __str__(self) -> str:
        return "Tell the guest that %s has grown to %d bytes." % (self.live.id, self.size)
