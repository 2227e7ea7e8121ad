# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What has to be defined for drives, in an order that QEMU takes: objects, controllers, then nodes before what uses them. Pure.

C(-blockdev) and C(-device) say it as arguments (C(render_arguments)), QMP as commands.
"""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._drive import devices, keyval, nodes, stack
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Device, DrivesSpec, Node, Object


class Definition(t.NamedTuple):
    """C(kind): C(object), C(blockdev), C(device) or C(machine); C(told): as QMP would be told, devices with flat keys."""

    kind: str
    told: t.Dict[str, t.Any]


def all_of(spec: DrivesSpec) -> t.List[Definition]:
    """All that C(-blockdev) and C(-device) need."""
    found = needed(spec)
    blockdevs = _Blockdevs(spec)
    for node in spec.nodes:
        found += blockdevs.of(node.name)
    for drive in spec.drives:
        found += blockdevs.of(drive.id) if drive.backend is not None else []
        if drive.frontend is not None:
            found.append(frontend(drive.frontend, drive.id if drive.backend is not None else ""))
    return found


def needed(spec: DrivesSpec) -> t.List[Definition]:
    """What comes before all drives: objects and controllers."""
    objects = [Definition("object", object_tree(each)) for each in spec.objects]
    return objects + [Definition("device", device_told(each)) for each in spec.controllers]


def object_tree(each: Object) -> t.Dict[str, t.Any]:
    """As C(object-add) takes it."""
    return dict({"qom-type": each.kind, "id": each.id}, **keyval.nest(each.properties))


def frontend(device: Device, drive: str) -> Definition:
    """The device of a drive. C(drive): the node or C(-drive) it uses; empty for none."""
    if device.device == "pflash":
        return Definition("machine", {"pflash%d" % int(device.property("index") or 0): drive})
    return Definition("device", device_told(device, drive))


def device_told(device: Device, drive: str = "") -> t.Dict[str, t.Any]:
    """As C(device_add) takes it."""
    told: t.Dict[str, t.Any] = {"driver": device.device}
    told.update({key: value for key, value in (("id", device.id), ("bus", device.bus), ("drive", drive)) if value})
    told.update((key, value) for key, value in device.properties if devices.base_name(key) == key)
    told.update(keyval.nest((key, value) for key, value in device.properties if devices.base_name(key) != key))
    return told


class _Blockdevs:
    """Every node once, after those that it names."""

    def __init__(self, spec: DrivesSpec) -> None:
        graphs = {node.name: node for node in spec.nodes}
        graphs.update({drive.id: node for drive in spec.drives for node in [stack.graph(drive)] if node is not None})
        self._graphs = graphs
        self._home = {node.name: top for top, graph in graphs.items() for node in graph.walk() if node.name}
        self._done: t.Set[str] = set()

    def of(self, name: str) -> t.List[Definition]:
        """The definitions of the graph that a node is in, and of those it needs, as far as they were not given yet."""
        top = self._home.get(name)
        if top is None or top in self._done:
            return []
        self._done.add(top)
        found = []
        for node in self._graphs[top].walk():
            for _role, child in node.children:
                found += self.of(child) if isinstance(child, str) else []
        inner = [Definition("blockdev", nodes.to_tree(each)) for each in separate(self._graphs[top])]
        return found + inner + [Definition("blockdev", nodes.to_tree(self._graphs[top]))]


def separate(node: Node) -> t.Iterator[Node]:
    """The nodes below with an argument of their own, the deepest first."""
    for child in node.inner():
        yield from separate(child)
        if child.separate:
            yield child


def qmp(spec: DrivesSpec) -> t.List[t.Dict[str, t.Any]]:
    """The commands that add the drives to a running QEMU."""
    names = {"object": "object-add", "blockdev": "blockdev-add", "device": "device_add"}
    return [{"execute": names[each.kind], "arguments": each.told} for each in all_of(spec) if each.kind in names]


def cold(spec: DrivesSpec) -> t.List[str]:
    """The drives whose device a running QEMU does not take."""
    return [each.id for each in spec.drives if each.frontend is not None and each.frontend.device in devices.COLD]
