# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Drives and objects that are wanted, as a QEMU that has them would tell of them. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._drive import definitions, devices, nodes, stack, throttling
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import (
    Device,
    Drive,
    DrivesSpec,
    Node,
    Object,
    Options,
    Scalar,
    sorted_options,
)
from ansible_collections.platter.qemu.plugins.module_utils._live import image
from ansible_collections.platter.qemu.plugins.module_utils._live.state import LiveController, LiveDrive, Medium

#: what a device does where nobody says it
_POLICIES = {"werror": "enospc", "rerror": "report"}
#: whose places QEMU counts, so that one is free as long as there is one at all
#: what a device has where nobody says it
UNSAID: t.Dict[str, Scalar] = {"serial": "", "wwn": 0, "bootindex": -1}
_NO_PROPERTIES = frozenset(("pflash", "mtd", "sd-card"))


def drive(wanted: Drive, bus: str = "") -> LiveDrive:
    """The drive once it is plugged in. C(bus): that was chosen for it."""
    device = wanted.frontend
    if device is None:
        return LiveDrive(wanted.id, medium=medium(wanted))
    properties = properties_of(device)
    return LiveDrive(
        wanted.id,
        device.device,
        device_id(wanted),
        medium(wanted),
        properties,
        removable=device.device in devices.REMOVABLE,
        bus=bus or device.bus,
        path="/machine/peripheral/" + device_id(wanted),
        qdev=device_id(wanted),
    )


def device_id(wanted: Drive) -> str:
    """What a device is called that is plugged in for the drive: without a name it could not be found again."""
    return (wanted.frontend.id if wanted.frontend is not None else "") or wanted.id


def graph(wanted: Drive, legacy: bool = False) -> t.Optional[Node]:
    """All its nodes, as they are added: each with a name. C(legacy): the uppermost one cannot have the drive's."""
    found = stack.graph(wanted)
    if found is not None and legacy:
        found = replace(found, name="")
    return image.marked(found, wanted) if found is not None else None


def medium(wanted: Drive, legacy: bool = False) -> t.Optional[Medium]:
    """What its nodes will tell."""
    whole = graph(wanted, legacy)
    if whole is None or wanted.backend is None:
        return None
    top = nodes.format_node(wanted.backend)
    names = tuple(node.name for node in whole.walk())
    return Medium(
        whole.name,
        names,
        top.driver,
        image.place(wanted.backend),
        image.shown(top),
        image.mark_in(names, whole.name),
        wanted.throttle,
        wanted.copy_on_read,
        format_node=nodes.format_node(whole).name,
    )


def apart(spec: DrivesSpec) -> t.Iterator[Drive]:
    """The nodes that are described apart, each as a drive of its name without a device."""
    graphs = [each.backend for each in spec.drives if each.backend is not None]
    for node in (*graphs, *spec.nodes):
        yield from (as_drive(each) for each in definitions.separate(node))
    yield from map(as_drive, spec.nodes)
    yield from (each for each in spec.drives if each.frontend is None and each.backend is not None)


def as_drive(node: Node) -> Drive:
    """A node by its name."""
    return Drive(node.name, replace(node, separate=False))


def asked(device: Device) -> t.List[str]:
    """The properties of a device that QEMU is asked for: those that are said, and some that guests know disks by."""
    if device.device in _NO_PROPERTIES:
        return []
    known = devices.DRIVES.get(device.device, frozenset())
    said = [name for name, _value in device.properties if devices.base_name(name) == name]
    makes_one_up = {"serial"} if devices.kind(device.device) == "ide" else set()
    return [*said, *(name for name in UNSAID if name in known - makes_one_up and name not in said)]


def properties_of(device: Device) -> Options:
    """What they will be."""
    said = {name: device.property(name) for name in asked(device)}
    return sorted_options(
        {name: UNSAID[name] if value is None else normal(name, value) for name, value in said.items()}
    )


def controller(device: Device) -> LiveController:
    """A controller once it is plugged in."""
    return LiveController(device.device, device.id, properties_of(device), device.bus)


def normal(name: str, value: t.Any) -> Scalar:
    """A property, as both sides write it. Raises ValueError (a sentence)."""
    if name == "iothread":
        return str(value).rpartition("/")[2]
    if name == "addr":
        return value if isinstance(value, int) and not isinstance(value, bool) else _address(str(value))
    if name in _POLICIES and value == "auto":
        return _POLICIES[name]
    return devices.typed(name, value)


def _address(text: str) -> Scalar:
    """Slot and function of PCI, in hexadecimal (C(set_pci_devfn) of QEMU), as one number."""
    slot, _dot, function = text.partition(".")
    try:
        return int(slot, 16) << 3 | int(function or "0", 16)
    except ValueError:
        return text  # QEMU says what is wrong with it


def limits(properties: t.Iterable[t.Tuple[str, Scalar]]) -> Options:
    """Those that limit something. A burst lasts a second where nobody says it, and is none without an amount."""
    has = {name[len("limits.") :]: value for name, value in properties if name.startswith("limits.")}
    kept = {
        "limits." + name: value
        for name, value in has.items()
        if name in throttling.LIMITS and value and not (name.endswith("-length") and value == 1)
    }
    return sorted_options(kept)


def live_object(each: Object) -> Object:
    """What is asked of an object: of a throttle group its limits, else what is said of it."""
    if each.kind == "throttle-group":
        return replace(each, properties=limits(each.properties))
    return replace(each, properties=sorted_options({name: text_of(each.property(name)) for name in asked_of(each)}))


def asked_of(each: Object) -> t.List[str]:
    """The properties of an object that QEMU is asked for: not what is a secret itself."""
    return [name for name, _value in each.properties if name not in ("data", "loaded")]


def text_of(value: t.Any) -> str:
    """A property of an object, as both sides write it."""
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
