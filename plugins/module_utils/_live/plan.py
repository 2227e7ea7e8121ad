# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""From the drives that a VM is to have, and those that it has, to the steps between them while it runs. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._drive import definitions, nodes
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import (
    Device,
    Drive,
    DrivesSpec,
    Node,
    Object,
    sorted_options,
)
from ansible_collections.platter.qemu.plugins.module_utils._live import actions, buses, difference, foretell, image
from ansible_collections.platter.qemu.plugins.module_utils._live.state import Idle, LiveDrive, LiveState


class NeedsRestart(t.NamedTuple):
    """What stays as it is until the VM is started again. C(what): an option, or what the drive has. C(why): a sentence."""

    drive: str
    what: str
    why: str


class Drift(t.NamedTuple):
    """What is not as it is declared, whether or not a step makes it so. C(live), C(declared): None for nothing."""

    drive: str
    what: str
    live: t.Any
    declared: t.Any


class LivePlan(t.NamedTuple):
    """C(steps): in order; empty when there is nothing to do, or nothing that can be done while the VM runs."""

    steps: t.Tuple[actions.LiveAction, ...]
    needs_restart: t.Tuple[NeedsRestart, ...]
    drift: t.Tuple[Drift, ...]


def plan(wanted: DrivesSpec, state: LiveState, purge: bool = False, absent: t.Collection[str] = ()) -> LivePlan:
    """What makes C(state) what is wanted. C(purge): drives that are not listed are unplugged. C(absent): ids of drives that
    are to be unplugged anyway.
    """
    planner = _Planner(wanted, state, purge, frozenset(absent))
    planner.clear()
    planner.unplug()
    planner.joined()
    planner.groups()
    planner.objects()
    planner.needed()
    planner.drives()
    planner.unused()
    return LivePlan(tuple(planner.steps), tuple(planner.needs_restart), tuple(planner.drift))


class _Planner:
    """Each part looks at the state that the steps before it lead to."""

    def __init__(self, wanted: DrivesSpec, state: LiveState, purge: bool, absent: t.FrozenSet[str]) -> None:
        self._wanted = wanted
        self._state = state
        self._purge = purge
        self._absent = absent
        self._known = buses.matched(wanted, state)
        self.steps: t.List[actions.LiveAction] = []
        self.needs_restart: t.List[NeedsRestart] = []
        self.drift: t.List[Drift] = []

    def _do(self, *steps: actions.LiveAction) -> None:
        self.steps += steps
        self._state = predict(self._state, steps)

    def _restart(self, drive: str, what: str, why: str) -> None:
        self.needs_restart.append(NeedsRestart(drive, what, why))

    def clear(self) -> None:
        """Nodes that a run before has left, or that hold the name of a drive."""
        for idle in self._state.idle:
            why = self._why_cleared(idle)
            if why:
                self._do(actions.ClearNodes(idle, why))

    def _why_cleared(self, idle: Idle) -> str:
        kept = next((each for each in self._wanted.drives if each.id == idle.root and each.frontend is None), None)
        if kept is not None:
            have = image.mark_in(idle.names, idle.root)
            return "which are not as they are declared" if have not in ("", image.mark(kept)) else ""
        if any(node.name == idle.root for node in self._wanted.nodes):
            return ""
        if any(image.is_ours(name) for name in idle.names):
            return "which a run before has left"
        if idle.root in self._absent or any(each.id == idle.root for each in self._wanted.drives):
            return "which are left of a drive"
        return "which are not listed" if self._purge and not idle.root.startswith("platter-") else ""

    def unplug(self) -> None:
        """What is not listed, or is to go."""
        known = {live.id for live in self._known.values()}
        for live in self._state.drives:
            asked = (self._purge and not buses.is_machines(live)) or buses.names(live) & self._absent
            if live.id not in known and asked:
                self.drift.append(Drift(live.id, "drive", live.device or "no device", None))
                if live.fixed:
                    self._restart(live.id, "drive", live.fixed)
                else:
                    port = live.bus if buses.is_port(live.bus, self._state) else ""
                    self._do(actions.UnplugDrive(live, self._nodes_of(live), self._objects_of(live), port))

    def _nodes_of(self, live: LiveDrive) -> t.Tuple[str, ...]:
        """Those that are not described apart, as others may be put on them."""
        kept = {each.name for node in self._wanted.nodes for each in node.walk()}
        return tuple(name for name in (live.medium.names if live.medium is not None else ()) if name not in kept)

    def _objects_of(self, live: LiveDrive) -> t.Tuple[str, ...]:
        """Those that were made for the drive, and that nothing else is known to use."""
        others = [each for each in self._state.drives if each.id != live.id]
        used = {each.id for each in self._wanted.objects}
        used |= {name for each in others for name in buses.objects(each)}
        known = {each.id for each in self._state.objects}
        return tuple(sorted(buses.objects(live) & known - used))

    def joined(self) -> None:
        """Groups that drives come into: before those that are there join them in another way."""
        for group, members in difference.no_objects(self._wanted, self._state, self._known):
            self._do(*(actions.ThrottleDevice(live, "", ()) for live in members), actions.AddObject(group))

    def groups(self) -> None:
        """Limits are those of a group, however many drives are in it."""
        for each in self._wanted.objects:
            known = self._state.object(each.id)
            if known is None or each.kind != "throttle-group":
                continue
            limits = foretell.limits(each.properties)
            if known.properties != limits:
                self.drift.append(Drift(each.id, "throttle", dict(known.properties), dict(limits)))
                self._do(actions.SetGroupLimits(each.id, limits))

    def needed(self) -> None:
        """Objects that are no drive's own, controllers, and nodes of their own."""
        for device in self._wanted.controllers:
            known = next((each for each in self._state.controllers if each.id == device.id), None)
            if known is None:
                self._controller(device)
            else:
                self._told(device.id, difference.of_controller(device, known))
        for node in self._wanted.nodes:
            for each in (*definitions.separate(node), node):
                self._compare(foretell.as_drive(each))
            if node.name not in self._state.nodes:
                whole = image.marked(node, foretell.as_drive(node))
                self._do(*map(actions.AddObject, self._missing(_values_of_node(node))), actions.AddNode(whole))

    def _compare(self, wanted: Drive) -> None:
        """A node that is described apart with the one of its name that is there."""
        live = next((each for each in self._state.shared if each.id == wanted.id), None)
        if live is not None:
            self._told(wanted.id, difference.of_node(wanted, live))

    def objects(self) -> None:
        """Those that are there, and are not as they are wanted: they stay so."""
        owners = {each.id + "-secret": each.id for each in self._wanted.drives}
        for each in self._wanted.objects:
            known = self._state.object(each.id)
            for found in difference.of_object(each, known) if known is not None else ():
                own = (each.kind, found.what) == ("secret", "file") and each.id in owners
                what = "secret_file" if own else found.what
                self._told(owners[each.id] if own else each.id, [found._replace(what=what)])

    def _told(self, name: str, found: t.Iterable[difference.Difference]) -> None:
        """What is not as it is declared, and needs a new start."""
        for each in found:
            self.drift.append(Drift(name, each.what, each.live, each.declared))
            self._restart(name, each.what, each.why)

    def _controller(self, device: Device) -> None:
        self.drift.append(Drift(device.id, "controller", None, device.device))
        bus, why = buses.bus_for(device, self._state)
        if why:
            self._restart(device.id, "controller", why)
            return
        values = {value for _name, value in device.properties}
        placed = replace(device, bus=bus)
        self._do(*map(actions.AddObject, self._missing(values)), actions.PlugController(placed))

    def _missing(self, values: t.Collection[t.Any]) -> t.List[Object]:
        """The objects among values of options that are not there yet."""
        known = {each.id for each in self._state.objects}
        return [each for each in self._wanted.objects if each.id in values and each.id not in known]

    def drives(self) -> None:
        """Each drive; then what is about several of them."""
        order = []
        for wanted in self._wanted.drives:
            live = self._known.get(wanted.id)
            if live is None:
                self._plug(wanted)
                continue
            now = next(each for each in self._state.drives if each.id == live.id)
            found = difference.found(wanted, now, self._wanted, self._state)
            self.drift += [Drift(wanted.id, each.what, each.live, each.declared) for each in found]
            order += [(now, int(each.declared)) for each in found if each.way == "bootindex"]
            self._change(wanted, now, found)
        if order:
            self._boot_order(order)

    def unused(self) -> None:
        """Objects that are declared, and that nothing needs: they are added with what needs them."""
        named = {value for each in self._wanted.drives for value in _values_of_drive(each)}
        named |= {value for each in self._wanted.nodes for value in _values_of_node(each)}
        named |= {value for each in self._wanted.controllers for _name, value in each.properties}
        for each in self._missing([each.id for each in self._wanted.objects]):
            if each.id not in named:
                self._told(each.id, [difference.unused(each)])

    def _boot_order(self, order: t.List[t.Tuple[LiveDrive, int]]) -> None:
        """Before drives are plugged in, which may take the place of another."""
        step = actions.SetBootOrder(tuple(order))
        first = next((n for n, each in enumerate(self.steps) if isinstance(each, actions.PlugDrive)), len(self.steps))
        self.steps.insert(first, step)
        self._state = step.apply(self._state)

    def _plug(self, wanted: Drive) -> None:
        if wanted.frontend is None and wanted.id in self._state.nodes:
            self._compare(wanted)
            return
        self.drift.append(Drift(wanted.id, "drive", None, wanted.frontend.device if wanted.frontend else "no device"))
        bus, why = buses.why_not_plugged(wanted, self._state)
        if why:
            self._restart(wanted.id, "drive", why)
        else:
            self._do(actions.PlugDrive(wanted, bus, tuple(self._missing(_values_of_drive(wanted)))))

    def _change(self, wanted: Drive, live: LiveDrive, found: t.Sequence[difference.Difference]) -> None:
        ways = {each.way for each in found}
        self._wait(wanted, found)
        if "medium" in ways:
            self._do(actions.ChangeMedium(live, wanted, tuple(self._missing(_values_of_drive(wanted)))))
        elif live.tray_open and wanted.backend is not None:
            self.drift.append(Drift(wanted.id, "tray", "open", "closed"))
            self._do(actions.CloseTray(live))
        if "options" in ways and live.medium is not None:
            self._reopen(wanted, live)
        if "throttle" in ways:
            group = self._wanted.object(wanted.throttle)
            limits = foretell.limits(group.properties) if group is not None else ()
            self._do(actions.ThrottleDevice(live, wanted.throttle if limits else "", limits))
        if "group" in ways and live.medium is not None:
            self._do(actions.SetGroupLimits(live.medium.group, ()))
        size = difference.grown(wanted, live)
        if size:
            self.drift.append(Drift(wanted.id, "size", live.medium.size if live.medium else None, size))
            self._do(actions.GrowDrive(live, size))

    def _wait(self, wanted: Drive, found: t.Sequence[difference.Difference]) -> None:
        """For the next start."""
        for each in found:
            if each.way in (difference.RESTART, difference.LAYER):
                self._restart(wanted.id, each.what, each.why)
        if wanted.backend is not None and not any(each.way == "medium" for each in found):
            for node in definitions.separate(wanted.backend):
                self._compare(foretell.as_drive(node))

    def _reopen(self, wanted: Drive, live: LiveDrive) -> None:
        medium, top = live.medium, nodes.format_node(t.cast(Node, wanted.backend))
        if medium is None:
            return
        kept = {key: value for key, value in medium.options if key not in image.REOPENED}
        shown = dict(kept, **{key: value for key, value in image.shown(top) if key in image.REOPENED})
        said = {key: image.SHOWN[key] for key in image.REOPENED}  # else what is below keeps what it has inherited
        options = {**said, **dict(top.options)}
        if not difference.read_only_by_itself(wanted):  # a changed one waits for the next start
            options["read-only"] = dict(medium.options).get("read-only", False)
        node = replace(top, name=medium.format_node, driver=medium.driver, options=sorted_options(options))
        self._do(actions.ReopenImage(live, node, tuple(sorted(shown.items()))))


def _values_of_node(node: Node) -> t.Set[t.Any]:
    return {value for each in node.walk() for _key, value in each.options}


def _values_of_drive(drive: Drive) -> t.Set[t.Any]:
    """What may be the id of an object."""
    found = _values_of_node(drive.backend) if drive.backend is not None else set()
    found |= {value for _name, value in drive.frontend.properties} if drive.frontend is not None else set()
    return found | {drive.throttle} - {""}
