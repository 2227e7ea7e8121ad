# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Where a disk sits: buses and addresses in libvirt's words (C(<target>), C(<address>)) and in QEMU's. Pure.

libvirt names its controllers by kind and number (C(scsi0), C(usb0), C(ide.0)), so that only such buses have an address in it.
"""

from __future__ import annotations

import re
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Device

#: QEMU's device -> libvirt's kind of disk and bus
_KINDS = {
    "virtio-blk-pci": ("disk", "virtio"),
    "virtio-blk-ccw": ("disk", "virtio"),
    "virtio-blk-device": ("disk", "virtio"),
    "scsi-hd": ("disk", "scsi"),
    "scsi-cd": ("cdrom", "scsi"),
    "scsi-block": ("lun", "scsi"),
    "ide-hd": ("disk", "ide"),
    "ide-cd": ("cdrom", "ide"),
    "usb-storage": ("disk", "usb"),
    "floppy": ("floppy", "fdc"),
    "sd-card": ("disk", "sd"),
}
_PREFIXES = {"virtio": "vd", "scsi": "sd", "ide": "hd", "sata": "sd", "usb": "sd", "fdc": "fd", "sd": "sd"}
_HEX = re.compile(r"(?:0x)?([0-9a-fA-F]+)(?:\.(?:0x)?([0-7]))?\Z")


def kind_of(device: str, machine: str, bus: str) -> t.Optional[t.Tuple[str, str]]:
    """libvirt's kind of disk and its bus; None for what is no disk there."""
    found = _KINDS.get(device)
    if found is not None and found[1] == "ide" and (machine != "pc" or bus.startswith("ahci")):
        return (found[0], "sata")
    return found


def device_of(kind: str, bus: str) -> str:
    """QEMU's device. Raises ValueError (a sentence)."""
    for device, pair in _KINDS.items():
        if pair == (kind, "ide" if bus == "sata" else bus):
            return device
    raise ValueError("a %s on the bus %s is not known here" % (kind, bus))


def target_name(bus: str, taken: t.Collection[str]) -> str:
    """The next free name of a bus: C(vda), C(vdb) ... It is a label only, and says nothing about the guest."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = (_PREFIXES[bus] + first + second for first in ("", *letters) for second in letters)
    return str(next(name for name in names if name not in taken))


def written(device: Device, bus: str, machine: str) -> t.Optional[t.Dict[str, str]]:
    """The attributes of C(<address>); None where the device says nothing, or has no such address in libvirt."""
    if bus in ("scsi", "ide", "sata", "fdc"):
        numbers = _drive_numbers(device, bus, machine)
        if numbers is None:
            return None
        names = ("controller", "bus", "target", "unit")
        return {"type": "drive", **{name: str(number) for name, number in zip(names, numbers)}}
    if bus == "usb":
        match = re.match(r"usb([0-9]+)\.0\Z", device.bus)
        port = device.property("port")
        return {"type": "usb", "bus": match[1], "port": str(port)} if match and port is not None else None
    return _pci(device) if bus == "virtio" else None


def _drive_numbers(device: Device, bus: str, machine: str) -> t.Optional[t.Tuple[int, int, int, int]]:
    unit = int(device.property("unit") or 0)
    if bus == "fdc":
        return (0, 0, 0, unit) if device.property("unit") is not None else None
    if bus == "scsi":
        match = re.match(r"scsi([0-9]+)\.0\Z", device.bus)
        numbers = [int(device.property(name) or 0) for name in ("channel", "scsi-id", "lun")]
        return (int(match[1]), numbers[0], numbers[1], numbers[2]) if match else None
    match = re.match(r"(ide|ahci([0-9]+))\.([0-9]+)\Z", device.bus)
    if not match:
        return None
    if bus == "ide":
        return (0, int(match[3]), 0, unit)
    first = int(match[2]) + int(machine == "q35") if match[2] else 0
    return (first, 0, 0, int(match[3]))


def _pci(device: Device) -> t.Optional[t.Dict[str, str]]:
    bus = re.match(r"pcie?\.([0-9]+)\Z", device.bus)
    addr = _HEX.match(str(device.property("addr") or ""))
    if not bus or not addr:
        return None
    place = (("domain", 0), ("bus", int(bus[1])), ("slot", int(addr[1], 16)), ("function", int(addr[2] or 0)))
    return {"type": "pci", **{name: "0x%x" % number for name, number in place}}


def read(address: t.Optional[ET.Element], bus: str, machine: str) -> t.Dict[str, t.Any]:
    """C(bus) and properties of a device, as tasks name them."""
    if address is None:
        return {}
    numbers = {
        name: int(address.get(name, "0"), 0) for name in ("controller", "bus", "target", "unit", "slot", "function")
    }
    kind = address.get("type")
    if kind == "drive":
        return _read_drive(numbers, bus, machine)
    if kind == "usb":
        return {"bus": "usb%d.0" % numbers["bus"], "port": address.get("port", "")}
    if kind == "pci":
        name = "pcie" if machine == "q35" and not numbers["bus"] else "pci"
        addr = "0x%x" % numbers["slot"] + (".0x%x" % numbers["function"] if numbers["function"] else "")
        return {"bus": "%s.%d" % (name, numbers["bus"]), "addr": addr}
    return {}


def _read_drive(numbers: t.Dict[str, int], bus: str, machine: str) -> t.Dict[str, t.Any]:
    if bus == "scsi":
        place = {"channel": numbers["bus"], "scsi_id": numbers["target"], "lun": numbers["unit"]}
        return dict(place, bus="scsi%d.0" % numbers["controller"])
    if bus == "ide":
        return {"bus": "ide.%d" % numbers["bus"], "unit": numbers["unit"]}
    if bus == "sata":
        controller = numbers["controller"] - int(machine == "q35")
        if controller < 0:
            return {"bus": "ide.%d" % numbers["unit"], "unit": 0}
        return {"bus": "ahci%d.%d" % (controller, numbers["unit"])}
    return {"unit": numbers["unit"]} if bus == "fdc" else {}
