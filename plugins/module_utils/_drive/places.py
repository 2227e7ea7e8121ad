# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Where C(-drive if=,index=) puts a drive, which device it becomes there, and what QEMU calls it. Pure.

Source: C(blockdev.c) (C(drive_new), C(if_max_devs)) and the machines of QEMU 7.2.
"""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._drive import devices
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Device

#: C(-hda) and the like: interface (empty: the machine's own) and index
SHORT = {
    "hda": ("", 0),
    "hdb": ("", 1),
    "hdc": ("", 2),
    "hdd": ("", 3),
    "cdrom": ("", 2),
    "fda": ("floppy", 0),
    "fdb": ("floppy", 1),
    "pflash": ("pflash", None),
    "mtdblock": ("mtd", None),
    "sd": ("sd", None),
}
INTERFACES = ("ide", "scsi", "virtio", "floppy", "pflash", "sd", "mtd", "xen", "none")
_WITH_BUSES = {"ide": 2, "scsi": 7}
#: interface -> what it becomes as a disk and as a CD-ROM
_DEVICES = {
    "ide": ("ide-hd", "ide-cd"),
    "scsi": ("scsi-hd", "scsi-cd"),
    "virtio": ("virtio-blk-pci", "virtio-blk-pci"),
    "floppy": ("floppy", "floppy"),
    "sd": ("sd-card", "sd-card"),
    "pflash": ("pflash", "pflash"),
    "mtd": ("mtd", "mtd"),
}


class Place(t.NamedTuple):
    """An interface and a place on it; C(bus) counts only where the interface has more than one."""

    interface: str
    bus: int
    unit: int


def default_interface(machine: str) -> str:
    """What C(-hda) and C(-drive) without C(if) mean."""
    return "ide" if machine in ("pc", "q35", "isapc") else "virtio"


def units(interface: str, machine: str) -> int:
    """How many drives a bus takes; 0: there is but one bus."""
    return 1 if (interface, machine) == ("ide", "q35") else _WITH_BUSES.get(interface, 0)


def at_index(interface: str, index: int, machine: str) -> Place:
    """The place with a number."""
    per_bus = units(interface, machine)
    return Place(interface, index // per_bus, index % per_bus) if per_bus else Place(interface, 0, index)


def index_of(place: Place, machine: str) -> int:
    """The number of a place."""
    return place.bus * (units(place.interface, machine) or 0) + place.unit


def default_id(place: Place, machine: str, cdrom: bool) -> str:
    """What QEMU calls a C(-drive) without an id."""
    media = ("-cd" if cdrom else "-hd") if place.interface in ("ide", "scsi") else ""
    if units(place.interface, machine):
        return "%s%d%s%d" % (place.interface, place.bus, media, place.unit)
    return "%s%s%d" % (place.interface, media, place.unit)


def device_at(place: Place, machine: str, cdrom: bool) -> t.Optional[Device]:
    """The device that the machine makes of a drive there; None where it makes none (C(if=none))."""
    names = _DEVICES.get(place.interface)
    if names is None:
        return None
    name = names[int(cdrom)]
    if name == "virtio-blk-pci" and machine in ("microvm", "s390-ccw-virtio"):
        name = "virtio-blk-device" if machine == "microvm" else "virtio-blk-ccw"
    if place.interface == "ide":
        return Device(name, bus="ide.%d" % place.bus, properties=(("unit", place.unit),))
    if place.interface == "scsi":
        return Device(name, properties=(("scsi-id", place.unit),))  # its controller is made as for others
    if place.interface == "floppy":
        return Device(name, properties=(("unit", place.unit),))
    return Device(name, properties=(("index", place.unit),) if name in devices.OF_THE_MACHINE else ())


def place_of(device: Device, machine: str, taken: t.Collection[Place]) -> t.Optional[Place]:
    """The place at which the machine makes just such a device; None where there is none.

    Devices without an address are put at the first free place. C(taken): places that others have.
    """
    for interface, names in _DEVICES.items():
        if device.device in names or (
            device.device in ("virtio-blk-device", "virtio-blk-ccw") and interface == "virtio"
        ):
            for index in range(32):
                place = at_index(interface, index, machine)
                made = device_at(place, machine, device.device in devices.CDROMS)
                if place not in taken and made is not None and _same_place(made, device):
                    return place
    return None


def _same_place(made: Device, device: Device) -> bool:
    """Whether a device that the machine makes is at the address of the other; what that leaves open, it takes."""
    if device.bus not in ("", made.bus) or device.device != made.device:
        return False
    if not device.bus and made.bus and device.properties and device.property("unit") is not None:
        return False
    asked = {name: device.property(name) for name in ("unit", "scsi-id", "index")}
    return all(value is None or made.property(name) == value for name, value in asked.items())
