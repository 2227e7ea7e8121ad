# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Controllers for drives that need one and have none. Pure.

C(pc) and C(q35) have places for IDE drives, C(pc) also for floppies; other machines have neither.
"""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._drive import devices
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Device, Drive, DrivesSpec

_PORTS = 6
#: the places for IDE drives that a machine has: bus and unit
_IDE_PLACES = {
    "pc": (("ide.0", 0), ("ide.0", 1), ("ide.1", 0), ("ide.1", 1)),
    "q35": tuple(("ide.%d" % number, 0) for number in range(6)),
}
_FLOPPIES = {"pc": 2}


def completed(spec: DrivesSpec) -> DrivesSpec:
    """With a place for each IDE drive, and with a controller for those drives of each kind that have no place, where there
    is none of that kind yet.
    """
    spec = _with_ide_places(in_usual_words(spec))
    for kind in devices.NEEDED:
        if not any(devices.CONTROLLERS.get(each.device) == kind for each in spec.controllers):
            spec = _with_controller(spec, kind)
    return spec


def in_usual_words(spec: DrivesSpec) -> DrivesSpec:
    """Places on SCSI without what QEMU takes anyway: channel 0, and logical unit 0 of a target that no other drive is on.

    libvirt says all parts of a place, most others the target only.
    """
    frontends = [each.frontend for each in spec.drives if each.frontend is not None]
    drives = []
    for each in spec.drives:
        device = each.frontend
        if device is not None and devices.kind(device.device) == "scsi":
            alone = [_target(other) for other in frontends].count(_target(device)) == 1
            if device.property("channel") == 0:
                device = device.with_property("channel", None)
            if device.property("lun") == 0 and device.property("scsi-id") is not None and alone:
                device = device.with_property("lun", None)
        drives.append(replace(each, frontend=device))
    return replace(spec, drives=tuple(drives))


def _target(device: Device) -> t.Tuple[t.Any, ...]:
    return device.bus, device.property("channel") or 0, device.property("scsi-id")


def _with_ide_places(spec: DrivesSpec) -> DrivesSpec:
    """Without a bus, QEMU finds the first place only on C(q35)."""
    taken = {
        (each.frontend.bus, each.frontend.property("unit") or 0) for each in spec.drives if each.frontend is not None
    }
    free = [place for place in _IDE_PLACES.get(spec.machine, ()) if place not in taken]
    drives = []
    for each in spec.drives:
        if each.frontend is not None and _homeless(each, "ide") and each.frontend.property("unit") is None and free:
            bus, unit = free.pop(0)
            each = replace(each, frontend=replace(each.frontend, bus=bus).with_property("unit", unit))
        drives.append(each)
    return replace(spec, drives=tuple(drives))


def _homeless(drive: Drive, kind: str) -> bool:
    device = drive.frontend
    return device is not None and devices.kind(device.device) == kind and not device.bus


def _with_controller(spec: DrivesSpec, kind: str) -> DrivesSpec:
    homeless = [each.id for each in spec.drives if _homeless(each, kind)]
    if kind == "floppy":
        homeless = homeless[_FLOPPIES.get(spec.machine, 0) :]
    if not homeless:
        return spec
    device, bus = devices.NEEDED[kind]
    count = -(-len(homeless) // _PORTS) if kind == "ide" else 1
    made = [Device(device, _free_id(spec, kind, number)) for number in range(count)]
    drives = _numbered([_placed(each, homeless, made, bus) for each in spec.drives], homeless)
    return replace(spec, drives=tuple(drives), controllers=spec.controllers + tuple(made))


def _placed(drive: Drive, homeless: t.List[str], made: t.List[Device], bus: str) -> Drive:
    if drive.id not in homeless or drive.frontend is None or not bus:
        return drive
    number = homeless.index(drive.id)
    if bus.endswith("%d"):
        place = bus % (made[number // _PORTS].id, number % _PORTS)
        return replace(drive, frontend=replace(drive.frontend, bus=place))
    return replace(drive, frontend=replace(drive.frontend, bus=bus % made[0].id))


def _numbered(drives: t.List[Drive], placed: t.Collection[str]) -> t.List[Drive]:
    """With a target for each of the C(placed) drives on SCSI that says none: those that no drive beside it has, in turn."""
    found = []
    said = {each.frontend: each.frontend.property("scsi-id") for each in drives if each.frontend is not None}
    for each in drives:
        device = each.frontend
        is_scsi = each.id in placed and device is not None and devices.kind(device.device) == "scsi"
        if is_scsi and device is not None and device.property("scsi-id") is None and device.property("lun") is None:
            taken = [number for other, number in said.items() if other.bus == device.bus]
            number = next(number for number in range(len(drives)) if number not in taken)
            device = device.with_property("scsi-id", number)
            said[device] = number
        found.append(replace(each, frontend=device))
    return found


def _free_id(spec: DrivesSpec, kind: str, number: int) -> str:
    used = {each.frontend.id for each in spec.drives if each.frontend is not None} | {
        each.id for each in spec.controllers
    }
    start = {"scsi": "scsi", "usb": "usb", "ide": "ahci", "floppy": "fdc"}[kind]
    free = (start + str(index) for index in range(1000) if start + str(index) not in used)
    return [next(free) for _unused in range(number + 1)][-1]
