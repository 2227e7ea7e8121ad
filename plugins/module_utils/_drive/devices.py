# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The devices that guests see drives as, and their controllers: properties with their types, buses, what can be plugged.

Pure. From C(device-list-properties) of QEMU 7.2, 10.0 and 11.1; C(tests/contract/_drive/test_schema.py) compares it with
what the installed QEMU says of itself.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._drive import block_options, keyval
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Device, Scalar, sorted_options

#: short names, as C(-device help) lists them; QEMU knows the long one by both (C(qdev-monitor.c))
_ALIASES = {
    "virtio-blk": "virtio-blk-pci",
    "virtio-scsi": "virtio-scsi-pci",
    "virtio-9p": "virtio-9p-pci",
    "ahci": "ich9-ahci",
    "lsi": "lsi53c895a",
    "floppy-disk": "floppy",
}

_BLOCK = (
    "drive logical_block_size physical_block_size min_io_size opt_io_size discard_granularity write-cache share-rw"
    " account-invalid account-failed backend_defaults bootindex stats-intervals"
)
_ERRORS = "rerror werror"
_CHS = "cyls heads secs lcyls lheads lsecs"
_PCI = "addr multifunction romfile rombar romsize acpi-index failover_pair_id busnr sriov-pf"
_VIRTIO = (
    "disable-legacy disable-modern iommu_platform packed event_idx indirect_desc ats ioeventfd vectors class aer"
    " page-per-vq modern-pio-notify migrate-extra notify_on_empty any_layout queue_reset use-started use-disabled-flag in_order"
)
_VIRTIO_BLK = (
    "serial iothread iothread-vq-mapping num-queues queue-size scsi config-wce request-merging discard write-zeroes"
    " max-discard-sectors"
    " max-write-zeroes-sectors seg-max-adjust report-discard-granularity"
)
_SCSI_PLACE = "scsi-id lun channel"
_SCSI = _SCSI_PLACE + (
    " serial wwn port_wwn port_index vendor product ver device_id scsi_version max_io_size"
    " quirk_mode_page_vendor_specific_apple quirk_mode_page_set_block_size migrate-emulated-scsi-request"
)
_USB = "port serial pcap msos-desc attached"

_DRIVES = {
    "virtio-blk-pci": " ".join((_BLOCK, _ERRORS, _CHS, _PCI, _VIRTIO, _VIRTIO_BLK)),
    "virtio-blk-device": " ".join((_BLOCK, _ERRORS, _CHS, _VIRTIO, _VIRTIO_BLK)),
    "virtio-blk-ccw": " ".join((_BLOCK, _ERRORS, _CHS, _VIRTIO, _VIRTIO_BLK, "devno")),
    "ide-hd": " ".join(
        (_BLOCK, _ERRORS, _CHS, "unit serial wwn model ver rotation_rate bios-chs-trans win2k-install-hack")
    ),
    "ide-cd": " ".join((_BLOCK, _ERRORS, "unit serial wwn model ver win2k-install-hack")),
    "scsi-hd": " ".join((_BLOCK, _ERRORS, _CHS, _SCSI, "removable rotation_rate dpofua max_unmap_size")),
    "scsi-cd": " ".join(
        (_BLOCK, _ERRORS, _SCSI, "quirk_mode_page_apple_vendor quirk_mode_page_truncated quirk_mode_sense_rom_use_dbd")
    ),
    "scsi-block": " ".join(("drive share-rw bootindex", _ERRORS, _SCSI_PLACE))
    + " scsi_version rotation_rate max_io_size max_unmap_size io_timeout migrate-pr",
    "scsi-generic": "drive share-rw bootindex io_timeout " + _SCSI_PLACE,
    "nvme": " ".join((_BLOCK, _PCI))
    + " serial num_queues max_ioqpairs msix_qsize mdts cmb_size_mb aerl aer_max_queued vsl use-intel-id ioeventfd"
    " subsys pmrdev msix-exclusive-bar smart_critical_warning zoned.zasl zoned.auto_transition sriov_max_vfs"
    " sriov_vq_flexible sriov_vi_flexible sriov_max_vi_per_vf sriov_max_vq_per_vf"
    " atomic.awun atomic.awupf atomic.dn ctratt.mem dbcs firmware-version legacy-cmb model mqes ocp spdm_port spdm_trans",
    "nvme-ns": _BLOCK + " nsid uuid eui64 eui64-default shared detached ms mset pi pil pif mssrl mcl msrc zoned"
    " zoned.zone_size zoned.zone_capacity zoned.cross_read zoned.max_active zoned.max_open zoned.descr_ext_size"
    " zoned.numzrwa zoned.zrwas zoned.zrwafg fdp.ruhs nguid atomic.nabo atomic.nabsn atomic.nabspf atomic.nawun"
    " atomic.nawupf",
    "usb-storage": " ".join((_BLOCK, _ERRORS, _USB, "removable commandlog")),
    "floppy": " ".join((_BLOCK, "unit drive-type")),
    "sd-card": "drive spec_version spi",
    "pflash": "index",
    "mtd": "index",
}
#: device -> its properties
DRIVES: t.Dict[str, t.FrozenSet[str]] = {name: frozenset(text.split()) for name, text in _DRIVES.items()}

#: controllers: kind -> the kind of drive that sits on it
CONTROLLERS = {
    "virtio-scsi-pci": "scsi",
    "virtio-scsi-device": "scsi",
    "virtio-scsi-ccw": "scsi",
    "lsi53c895a": "scsi",
    "lsi53c810": "scsi",
    "megasas": "scsi",
    "megasas-gen2": "scsi",
    "mptsas1068": "scsi",
    "pvscsi": "scsi",
    "am53c974": "scsi",
    "dc390": "scsi",
    "spapr-vscsi": "scsi",
    "ich9-ahci": "ide",
    "piix3-ide": "ide",
    "piix4-ide": "ide",
    "sysbus-ahci": "ide",
    "qemu-xhci": "usb",
    "nec-usb-xhci": "usb",
    "usb-ehci": "usb",
    "ich9-usb-ehci1": "usb",
    "ich9-usb-uhci1": "usb",
    "ich9-usb-uhci2": "usb",
    "ich9-usb-uhci3": "usb",
    "piix3-usb-uhci": "usb",
    "piix4-usb-uhci": "usb",
    "pci-ohci": "usb",
    "usb-hub": "usb",
    "usb-uas": "scsi",
    "usb-bot": "scsi",
    "isa-fdc": "floppy",
    "nvme-subsys": "nvme",
    "sdhci-pci": "sd",
}
#: a controller for drives of a kind that sit nowhere: its device, and the name of its bus from its id
NEEDED = {
    "scsi": ("virtio-scsi-pci", "%s.0"),
    "usb": ("qemu-xhci", "%s.0"),
    "ide": ("ich9-ahci", "%s.%d"),
    "floppy": ("isa-fdc", ""),
}
_KINDS = {"virtio-blk": "virtio", "scsi": "scsi", "ide": "ide", "usb": "usb", "nvme": "nvme", "floppy": "floppy"}
#: whose medium can be absent
REMOVABLE = frozenset(("ide-cd", "scsi-cd", "floppy", "usb-storage"))
CDROMS = frozenset(("ide-cd", "scsi-cd"))
#: no devices of their own: what the machine makes of C(-drive if=)
OF_THE_MACHINE = frozenset(("pflash", "mtd"))
#: that a running QEMU takes or gives up only when it ends
COLD = frozenset(("floppy", "sd-card", "pflash", "mtd", "ide-hd", "ide-cd"))

_INTEGERS_TEXT = (
    "bootindex num-queues queue-size logical_block_size physical_block_size min_io_size opt_io_size "
    "discard_granularity unit scsi-id lun channel wwn port_wwn port_index rotation_rate cyls heads secs lcyls "
    "lheads lsecs max-discard-sectors max-write-zeroes-sectors max_io_size max_unmap_size scsi_version io_timeout "
    "num_queues max_ioqpairs msix_qsize mdts cmb_size_mb aerl aer_max_queued vsl nsid eui64 ms mset pi pil pif "
    "mssrl mcl msrc zoned.zone_size zoned.zone_capacity zoned.max_active zoned.max_open zoned.descr_ext_size "
    "zoned.numzrwa zoned.zrwas zoned.zrwafg zoned.zasl spec_version index vectors class rombar romsize acpi-index "
    "p2 p3 intrs slots max_sectors cmd_per_lun virtqueue_size max_sge max_cmds sas_address smart_critical_warning "
    "sriov_max_vfs sriov_vq_flexible sriov_vi_flexible sriov_max_vi_per_vf sriov_max_vq_per_vf use_msg bandwidth "
    "maxframes log-scsi-req iobase irq dma bootindexA bootindexB firstport ports num-ports capareg maxcurr "
    "sd-spec-version uhs"
)
#: of QEMU 10.0 and 11.1
_NEW_INTEGERS_TEXT = (
    " atomic.awun atomic.awupf atomic.nabo atomic.nabsn atomic.nabspf atomic.nawun atomic.nawupf fdp.nrg fdp.nruh"
    " fdp.runs mqes spdm_port endianness"
)
_NEW_BOOLEANS_TEXT = (
    " atomic.dn conditional-intr-mapping ctratt.mem dbcs fdp in_order legacy-cmb migrate-emulated-scsi-request migrate-pr"
    " ocp quirk_mode_page_set_block_size win2k-install-hack"
)
_BOOLEANS_TEXT = (
    "share-rw scsi config-wce request-merging discard write-zeroes seg-max-adjust seg_max_adjust "
    "report-discard-granularity removable dpofua multifunction disable-modern iommu_platform packed event_idx "
    "indirect_desc ats ioeventfd aer page-per-vq modern-pio-notify migrate-extra notify_on_empty any_layout "
    "queue_reset use-started use-disabled-flag use-intel-id msix-exclusive-bar zoned.auto_transition "
    "eui64-default shared detached zoned zoned.cross_read commandlog attached msos-desc spi hotplug param_change "
    "streams superspeed-ports-first force-pcie-endcap use_jbod quirk_mode_page_vendor_specific_apple "
    "quirk_mode_page_apple_vendor quirk_mode_page_truncated quirk_mode_sense_rom_use_dbd "
    "virtio-pci-bus-master-bug-migration port-power"
)
_INTEGERS = frozenset((_INTEGERS_TEXT + _NEW_INTEGERS_TEXT).split())
_BOOLEANS = frozenset((_BOOLEANS_TEXT + _NEW_BOOLEANS_TEXT).split())
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.,_+-]*\Z")
_HEXADECIMAL = frozenset(("wwn", "port_wwn", "eui64", "sas_address"))


def full_name(device: str) -> str:
    """The long name of a device."""
    return _ALIASES.get(device, device)


def kind(device: str) -> str:
    """What it is plugged into: C(virtio), C(scsi), C(ide), C(usb), C(nvme), C(floppy); else empty."""
    return next((found for start, found in _KINDS.items() if device.startswith(start)), "")


def kind_of_property(name: str) -> str:
    """C(bool), C(int) or C(str)."""
    return "bool" if name in _BOOLEANS else "int" if name in _INTEGERS else "str"


def base_name(name: str) -> str:
    """The property that a part of a list belongs to: C(iothread-vq-mapping.0.iothread)."""
    return re.split(r"\.[0-9]+(?=\.|\Z)", name)[0]


def typed(name: str, value: t.Any) -> Scalar:
    """A property's value in its own type. Raises ValueError (a sentence) for a wrong one."""
    found = kind_of_property(name)
    if found == "bool":
        return block_options.boolean(name, value)
    if found == "int":
        return block_options.integer(name, value)
    return ("on" if value else "off") if isinstance(value, bool) else keyval.plain(value)


def text_of(name: str, value: Scalar) -> Scalar:
    """A property as arguments show it: world wide names in hexadecimal, as everybody writes them."""
    return "0x%016x" % value if name in _HEXADECIMAL and isinstance(value, int) else value


def from_properties(device: str, properties: t.Mapping[str, t.Any]) -> Device:
    """A device from what an argument says of it. Raises ValueError (a sentence)."""
    rest = {name: typed(name, value) for name, value in properties.items() if name not in ("id", "bus", "drive")}
    if rest.get("scsi") is False:  # as it is since QEMU 5.0, and 10.0 has no word for it
        del rest["scsi"]
    if not _NAME.match(device):
        raise ValueError("%r is no name of a device" % device)
    own, bus = (keyval.plain(properties.get(name, "")) for name in ("id", "bus"))
    return Device(full_name(device), own, bus, sorted_options(rest))


def family(machine: str) -> str:
    """C(pc), C(q35) or the type itself, without its version."""
    name = machine.split(",")[0]
    if name.startswith("pc-q35") or name == "q35":
        return "q35"
    if name == "pc" or name.startswith("pc-"):
        return "pc"
    return name.rsplit("-", 1)[0] if name.rsplit("-", 1)[-1][:1].isdigit() else name
