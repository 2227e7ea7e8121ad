# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Which drive is which, and where one can be plugged in while the VM runs. Pure."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._drive import devices
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Device, Drive, DrivesSpec
from ansible_collections.platter.qemu.plugins.module_utils._live import foretell
from ansible_collections.platter.qemu.plugins.module_utils._live.state import LiveDrive, LiveState

#: whose first bus takes no device while they run, only ports below it do
_PCI_EXPRESS = {"q35": "pcie.0", "virt": "pcie.0"}
#: of the controllers those that are PCI devices; all with C(-pci) in their names are, too
_PCI_TEXT = (
    "nvme lsi53c895a lsi53c810 megasas megasas-gen2 mptsas1068 pvscsi am53c974 dc390 ich9-ahci qemu-xhci nec-usb-xhci "
    "usb-ehci ich9-usb-ehci1 pci-ohci"
)
_PCI = frozenset(_PCI_TEXT.split())
#: what QEMU calls drives that have no name of their own
_BY_ITSELF = re.compile(r"(?:(?:ide|scsi)[0-9]+-(?:cd|hd)|floppy|sd|pflash|mtd|virtio|none)[0-9]+\Z")
#: controllers that a running QEMU takes, besides those of PCI
_OTHERS = frozenset(("usb-hub", "usb-uas", "usb-bot"))


def matched(wanted: DrivesSpec, state: LiveState) -> t.Dict[str, LiveDrive]:
    """Each wanted drive that is there: by the id of its device, else by its own, else by a node of that name."""
    found: t.Dict[str, LiveDrive] = {}
    left = list(state.drives)
    for fits in (_same_device, _same_id, _same_node):
        for each in wanted.drives:
            live = next((live for live in left if fits(each, live)), None) if each.id not in found else None
            if live is not None:
                found[each.id] = live
                left.remove(live)
    return found


def _same_device(wanted: Drive, live: LiveDrive) -> bool:
    return wanted.frontend is not None and live.device_id == foretell.device_id(wanted)


def _same_id(wanted: Drive, live: LiveDrive) -> bool:
    return live.id == wanted.id


def _same_node(wanted: Drive, live: LiveDrive) -> bool:
    return live.medium is not None and wanted.id in live.medium.names


def is_machines(live: LiveDrive) -> bool:
    """Whether it is an empty drive that many machines have by themselves."""
    return live.medium is None and not live.device_id


def is_unnamed(live: LiveDrive) -> bool:
    """Whether it is such a drive, and nobody has named it."""
    return is_machines(live) and bool(_BY_ITSELF.match(live.id))


def names(live: LiveDrive) -> t.Set[str]:
    """What a task may call the drive."""
    return {live.id, live.device_id, *(live.medium.names if live.medium is not None else ())} - {""}


def objects(live: LiveDrive) -> t.Set[str]:
    """The ids of objects that it uses, or that were made for it (C(read_spec))."""
    group = live.medium.group if live.medium is not None else ""
    thread = str(dict(live.properties).get("iothread") or "")
    return {name + "-secret" for name in names(live)} | {group, thread, live.group} - {""}


def is_pci(device: str) -> bool:
    """Whether a device or controller is one of PCI."""
    return device in _PCI or "-pci" in device


def is_port(bus: str, state: LiveState) -> bool:
    """Whether a bus is a port that is free once its device has gone."""
    return bus in state.all_ports


def why_not_plugged(wanted: Drive, state: LiveState) -> t.Tuple[str, str]:
    """(the bus that is to be named, why the drive cannot be plugged in): one of them empty, or both."""
    device = wanted.frontend
    if wanted.snapshot:
        return "", "snapshot is an option of -drive only"
    if state.object(wanted.throttle) is None and any(each.group == wanted.throttle != "" for each in state.drives):
        return "", "a drive that is not listed is in its throttle group %s, which is no object" % wanted.throttle
    if device is None:
        return "", ""
    if device.device in devices.COLD or device.device.endswith("-device"):
        return "", "a running QEMU takes no %s" % device.device
    if device.bus and device.bus.split(".")[0] in _absent_controllers(device, state):
        return "", "the controller of its bus %s is not there" % device.bus
    return bus_for(device, state)


def _absent_controllers(device: Device, state: LiveState) -> t.Set[str]:
    """The controller that a bus is named after, where it is known what it would have to be."""
    if is_pci(device.device) or any(device.bus.startswith(each.id + ".") for each in state.controllers if each.id):
        return set()
    return {device.bus.split(".")[0]} if devices.kind(device.device) in ("scsi", "usb") else set()


def bus_for(device: Device, state: LiveState) -> t.Tuple[str, str]:
    """The same for a device, or a controller."""
    if device.device in devices.CONTROLLERS and not is_pci(device.device) and device.device not in _OTHERS:
        return "", "a running QEMU takes no %s" % device.device
    root = _PCI_EXPRESS.get(state.machine)
    if root is None or not is_pci(device.device) or device.bus not in ("", root):
        return device.bus, ""
    if device.bus == root:
        return "", "%s takes no device while the VM runs: name the id of a free pcie-root-port as bus" % root
    if not state.ports:
        return "", "no pcie-root-port of the VM is free"
    return state.ports[0], ""
