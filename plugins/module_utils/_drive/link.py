# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Puts together what arguments say of one drive in different places: C(-drive), C(-blockdev), C(-device), C(-object). Pure."""

from __future__ import annotations

import typing as t
from collections import Counter
from dataclasses import dataclass, field, replace

from ansible_collections.platter.qemu.plugins.module_utils._drive import (
    block_options,
    controllers,
    devices,
    keyval,
    places,
    stack,
    throttling,
)
from ansible_collections.platter.qemu.plugins.module_utils._drive.parse_drive import DriveLine
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import (
    Device,
    Drive,
    DrivesSpec,
    Node,
    Object,
    Scalar,
    sorted_children,
    sorted_options,
)


@dataclass
class Found:
    """What was read so far, in order. C(uses): the device, and the node or C(-drive) it names (None: none)."""

    machine: str = ""
    lines: t.List[DriveLine] = field(default_factory=list)
    nodes: t.Dict[str, Node] = field(default_factory=dict)
    uses: t.List[t.Tuple[Device, t.Optional[str]]] = field(default_factory=list)
    objects: t.List[Object] = field(default_factory=list)
    notes: t.List[str] = field(default_factory=list)
    snapshot: bool = False
    #: the order in which drives come: their lines, and devices
    order: t.List[t.Tuple[str, int]] = field(default_factory=list)

    def add_drive(self, line: DriveLine) -> None:
        """A C(-drive), or one of the short options."""
        self.order.append(("line", len(self.lines)))
        self.lines.append(line)

    def add_node(self, node: Node) -> None:
        """A C(-blockdev). Raises ValueError (a sentence) for the second of a name."""
        if node.name in self.nodes:
            raise ValueError("two nodes have the name %s" % node.name)
        self.nodes[node.name] = node

    def add_device(self, told: t.Mapping[str, t.Any]) -> None:
        """A C(-device). Raises ValueError (a sentence)."""
        properties = {name: value for name, value in told.items() if name not in ("driver", "drive")}
        device = devices.from_properties(str(told["driver"]), properties)
        self.order.append(("device", len(self.uses)))
        self.uses.append((device, str(told["drive"]) if told.get("drive") is not None else None))


def object_properties(told: t.Mapping[str, t.Any]) -> t.Dict[str, Scalar]:
    """The properties of an object, with limits by one name and in numbers. Raises ValueError (a sentence)."""
    found: t.Dict[str, Scalar] = {}
    for name, value in told.items():
        limit = throttling.limit_of_group(name)
        if limit:
            found["limits." + limit] = block_options.integer(name, value)
        elif name in _BOOLEANS:
            found[name] = block_options.boolean(name, value)
        elif name in _INTEGERS:
            found[name] = block_options.integer(name, value)
        else:
            found[name] = keyval.plain(value)
    return found


_BOOLEANS = ("verify-peer", "sanity-check", "loaded")
_INTEGERS = ("poll-max-ns", "poll-grow", "poll-shrink", "aio-max-batch", "thread-pool-min", "thread-pool-max")


def linked(found: Found) -> DrivesSpec:
    """The drives. Raises ValueError (a sentence) where a device names a drive that is not there."""
    return _Linker(found).spec()


class _Linker:
    def __init__(self, found: Found) -> None:
        self._found = found
        self._taken: t.List[places.Place] = []
        self._groups: t.Dict[str, t.Dict[str, int]] = {}
        self._lines: t.Dict[str, t.Tuple[DriveLine, t.Optional[Device]]] = {}
        self._used: t.Set[str] = set()

    def spec(self) -> DrivesSpec:
        self._name_lines()
        drives: t.List[Drive] = []
        without_drive: t.List[Device] = []
        named = {name for _device, name in self._found.uses if name}
        tops = graphs(self._found.nodes, named)
        waiting = [name for name in self._lines if name not in named]
        for kind, number in self._found.order:
            if kind == "line":
                name = next((each for each in waiting if self._lines[each][0] is self._found.lines[number]), None)
                if name is not None:
                    drives.append(self._from_line(name, None))
                continue
            device, name = self._found.uses[number]
            if name is None and device.device not in devices.REMOVABLE:
                without_drive.append(device)
            else:
                drives.append(self._from_device(device, name, tops))
        nodes_left = tuple(node for name, node in tops.items() if name not in self._used)
        spec = DrivesSpec(tuple(drives), tuple(without_drive), self._objects(), nodes_left, self._found.machine)
        return controllers.in_usual_words(spec)

    def _name_lines(self) -> None:
        """The place and the name of each C(-drive), as QEMU gives them in turn."""
        for line in self._found.lines:
            place = self._place(line)
            if place in self._taken and place.interface != "none":
                raise ValueError("two drives at %s" % places.default_id(place, self._found.machine, line.cdrom))
            self._taken.append(place)
            name = line.id or places.default_id(place, self._found.machine, line.cdrom)
            if name in self._lines:
                raise ValueError("two drives have the id %s" % name)
            self._lines[name] = (line, places.device_at(place, self._found.machine, line.cdrom))
            if place.interface == "scsi":
                self._found.notes.append("if=scsi of %s is taken by no machine of today: give it a device" % name)

    def _place(self, line: DriveLine) -> places.Place:
        machine = self._found.machine
        interface = line.place.get("if") or places.default_interface(machine)
        if interface not in places.INTERFACES:
            raise ValueError("if is %r, not one of %s" % (interface, ", ".join(places.INTERFACES)))
        numbers = {
            key: block_options.integer(key, line.place[key]) for key in ("index", "bus", "unit") if key in line.place
        }
        if "index" in numbers:
            return places.at_index(interface, numbers["index"], machine)
        if "unit" in numbers:
            return places.Place(interface, numbers.get("bus", 0), numbers["unit"])
        start = numbers.get("bus", 0) * places.units(interface, machine)
        free = (places.at_index(interface, index, machine) for index in range(start, 1000))
        return next(place for place in free if place not in self._taken)

    def _from_device(self, device: Device, name: t.Optional[str], tops: t.Mapping[str, Node]) -> Drive:
        if name is None:
            return Drive(device.id or self._free_name("empty"), frontend=device)
        if name in self._used:
            raise ValueError("two devices use the drive %s" % name)
        if name in self._lines:
            return self._from_line(name, device)
        if name not in tops:
            raise ValueError(
                "the device %s names the drive %s, which is not there" % (device.id or device.device, name)
            )
        self._used.add(name)
        return stack.taken_apart(Drive(name, tops[name], device), self._found.objects)

    def _from_line(self, name: str, device: t.Optional[Device]) -> Drive:
        line, made = self._lines[name]
        self._used.add(name)
        if device is not None and line.place.get("if", "") != "none":
            raise ValueError("the drive %s has a device already; write if=none to give it another" % name)
        frontend = _of_today(device, line) if device is not None else made
        if frontend is not None:
            for key, value in line.properties.items():
                if frontend.property(key) is None:
                    frontend = frontend.with_property(key, value)
        elif line.properties:
            self._found.notes.append("%s of %s is a device's, and it has none" % (", ".join(line.properties), name))
        if line.node is not None and not line.node.driver:
            self._found.notes.append("the format of %s is not given, so QEMU guesses it" % name)
        snapshot = line.snapshot or (self._found.snapshot and line.node is not None)
        return Drive(name, line.node, frontend, self._group(name, line), line.copy_on_read, snapshot)

    def _group(self, name: str, line: DriveLine) -> str:
        if not line.limits and not line.group:
            return ""
        group = line.group or name
        self._groups.setdefault(group, {}).update({key: value for key, value in line.limits.items() if value})
        return group

    def _objects(self) -> t.Tuple[Object, ...]:
        made = [
            Object("throttle-group", group, sorted_options({"limits." + key: value for key, value in limits.items()}))
            for group, limits in self._groups.items()
        ]
        return tuple(sorted(self._found.objects + made, key=lambda each: (each.kind == "throttle-group", each.id)))

    def _free_name(self, start: str) -> str:
        used = {device.id for device, _name in self._found.uses} | set(self._lines) | self._used
        name = next("%s%d" % (start, number) for number in range(1000) if "%s%d" % (start, number) not in used)
        self._used.add(name)
        return name


def _of_today(device: Device, line: DriveLine) -> Device:
    """C(ide-drive) and C(scsi-disk) were what the drive's C(media) says, until QEMU 6.0."""
    kinds = {"ide-drive": ("ide-hd", "ide-cd"), "scsi-disk": ("scsi-hd", "scsi-cd")}
    names = kinds.get(device.device)
    return replace(device, device=names[int(line.cdrom)]) if names is not None else device


def graphs(named: t.Mapping[str, Node], tops: t.Collection[str]) -> t.Dict[str, Node]:
    """The graphs that nodes form which name each other. What only one names is put into that one, as a separate node;
    C(tops), and what more than one names, stand for themselves.
    """
    counts = Counter(child for node in named.values() for each in node.walk() for child in _references(each))
    alone = {name for name in named if counts[name] == 1 and name not in tops}
    return {name: _filled(node, named, alone, ()) for name, node in named.items() if name not in alone}


def _filled(node: Node, named: t.Mapping[str, Node], alone: t.Set[str], above: t.Tuple[str, ...]) -> Node:
    children: t.Dict[str, t.Union[Node, str]] = {}
    for role, child in node.children:
        if isinstance(child, Node):
            children[role] = _filled(child, named, alone, above)
        elif child in alone and child not in above:
            children[role] = replace(_filled(named[child], named, alone, (*above, child)), separate=True)
        else:
            children[role] = child
    return replace(node, children=sorted_children(children))


def _references(node: Node) -> t.Iterator[str]:
    yield from (child for _role, child in node.children if isinstance(child, str))
