# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""A VM's drives as values: what QEMU opens (a graph of block nodes) and what the guest sees (a device). Pure.

Names are QEMU's own. All values are hashable and compare by content, so that two command lines that mean the same drives
are equal once they are read.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

#: the value of an option; None is JSON's null (C(backing: null), a chain that is cut)
Scalar = t.Union[str, int, bool, None]
Options = t.Tuple[t.Tuple[str, Scalar], ...]


def sorted_options(options: t.Mapping[str, Scalar]) -> Options:
    """The one form of a mapping in these values."""
    return tuple(sorted(options.items()))


def sorted_children(children: t.Mapping[str, t.Union[Node, str]]) -> t.Tuple[t.Tuple[str, t.Union[Node, str]], ...]:
    """The same for the nodes below one; those of a list in its order."""
    return tuple(sorted(children.items(), key=lambda pair: (pair[0].split(".")[0], _number(pair[0]))))


def _number(role: str) -> int:
    last = role.rpartition(".")[2]
    return int(last) if last.isdigit() else 0


@dataclass(frozen=True)
class Node:
    """One block node. C(driver) is empty where QEMU is left to guess it, as old command lines do.

    C(options): dotted names to typed values, with those that every node has (C(read-only), C(cache.direct) ...).
    C(children): the role (C(file), C(backing), C(children.0)) to a node, or to the name of one that is defined elsewhere.
    C(separate): defined by an argument of its own, so that it inherits nothing from the node above.
    """

    driver: str
    options: Options = ()
    children: t.Tuple[t.Tuple[str, t.Union[Node, str]], ...] = ()
    name: str = ""
    separate: bool = False

    def option(self, name: str) -> Scalar:
        """An option's value; None where it is not set."""
        return dict(self.options).get(name)

    def child(self, role: str) -> t.Union[Node, str, None]:
        """The node in a role, or its name; None where there is none."""
        return dict(self.children).get(role)

    def with_options(self, **changed: Scalar) -> Node:
        """With options set, or removed where the value is None; C(__) stands for a dot, C(_) for a minus sign."""
        options = dict(self.options)
        for name, value in changed.items():
            key = name.replace("__", ".").replace("_", "-")
            options.pop(key, None)
            if value is not None:
                options[key] = value
        return replace(self, options=sorted_options(options))

    def inner(self) -> t.Iterator[Node]:
        """The nodes below that are described here."""
        for _role, child in self.children:
            if isinstance(child, Node):
                yield child

    def walk(self) -> t.Iterator[Node]:
        """This node and all below that are described here, from the top down."""
        yield self
        for child in self.inner():
            yield from child.walk()


@dataclass(frozen=True)
class Device:
    """What the guest sees, or a controller. C(device): QEMU's name of its kind; C(bus): empty where QEMU chooses.

    C(pflash) and C(mtd) are no devices of QEMU, but what a machine makes of such a drive; they have an C(index).
    """

    device: str
    id: str = ""
    bus: str = ""
    properties: Options = ()

    def property(self, name: str) -> Scalar:
        """A property's value; None where it is not set."""
        return dict(self.properties).get(name)

    def with_property(self, name: str, value: Scalar) -> Device:
        """With a property set, or removed where the value is None."""
        properties = dict(self.properties)
        properties.pop(name, None)
        if value is not None:
            properties[name] = value
        return replace(self, properties=sorted_options(properties))


@dataclass(frozen=True)
class Object:
    """C(-object): an iothread, a secret, a throttle group, TLS credentials. C(kind) is its C(qom-type)."""

    kind: str
    id: str
    properties: Options = ()

    def property(self, name: str) -> Scalar:
        """A property's value; None where it is not set."""
        return dict(self.properties).get(name)


@dataclass(frozen=True)
class Drive:
    """One drive. C(id): what C(drive=) of its device says: the name of its uppermost node, or of its C(-drive).

    C(backend) None: no medium. C(frontend) None: no device uses it. C(throttle): the group it belongs to (an Object of
    that id). C(copy_on_read), C(throttle): with C(-blockdev) filter nodes above the backend. C(snapshot): what the guest
    writes is thrown away when QEMU ends.
    """

    id: str
    backend: t.Optional[Node] = None
    frontend: t.Optional[Device] = None
    throttle: str = ""
    copy_on_read: bool = False
    snapshot: bool = False


@dataclass(frozen=True)
class Share:
    """A directory of the host that the guest mounts by its C(tag). C(driver): as the guest calls its file system, C(9p) or
    C(virtiofs). C(source): the directory; of C(virtiofs) the socket of its server. C(options): of C(-fsdev local).

    C(frontend): the device, without what names the others; its id is also that of what it is on.
    """

    tag: str
    driver: str
    source: str
    frontend: Device
    options: Options = ()

    def option(self, name: str) -> Scalar:
        """An option's value; None where it is not set."""
        return dict(self.options).get(name)


@dataclass(frozen=True)
class Boot:
    """Files of the host that the guest is started with, and what its kernel is told; empty for nothing."""

    kernel: str = ""
    initrd: str = ""
    append: str = ""


@dataclass(frozen=True)
class DrivesSpec:
    """All drives of one VM, with what they need. C(nodes): block nodes that no drive, or more than one, has for its own.

    C(shares), C(boot): what it starts with besides. C(shared_memory): bytes of memory, where other processes have it too.
    C(machine): QEMU's machine type without its version (C(pc), C(q35), C(virt), C(none)).
    """

    drives: t.Tuple[Drive, ...] = ()
    controllers: t.Tuple[Device, ...] = ()
    objects: t.Tuple[Object, ...] = ()
    nodes: t.Tuple[Node, ...] = ()
    machine: str = "pc"
    shares: t.Tuple[Share, ...] = ()
    boot: t.Optional[Boot] = None
    shared_memory: int = 0

    def all_nodes(self) -> t.Iterator[Node]:
        """Every node that is described, from the top of each graph down."""
        for drive in self.drives:
            if drive.backend is not None:
                yield from drive.backend.walk()
        for node in self.nodes:
            yield from node.walk()

    def object(self, name: str) -> t.Optional[Object]:
        """The object of that id."""
        return next((each for each in self.objects if each.id == name), None)
