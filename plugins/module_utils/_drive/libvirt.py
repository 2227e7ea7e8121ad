# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Drives as libvirt's C(<disk>), and its words for what both sides say. Pure."""

from __future__ import annotations

import re
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.platter.qemu.plugins.module_utils._drive import (
    libvirt_address,
    libvirt_source,
    nodes,
)
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Device, Drive, DrivesSpec, Node

NoWordsError = libvirt_source.NoWordsError

#: QEMU's limit -> libvirt's; the length of a burst has C(_max_length)
LIMITS = {
    "%s-%s%s" % (what, kind, end): "%s_%s_sec%s" % (kind, word, end.replace("-", "_"))
    for what, word in (("bps", "bytes"), ("iops", "iops"))
    for kind in ("total", "read", "write")
    for end in ("", "-max", "-max-length")
}
LIMITS["iops-size"] = "size_iops_sec"
BLOCK_SIZES = ("logical_block_size", "physical_block_size", "discard_granularity")
ERRORS = {"enospc": "enospace"}
#: C(storageFormat) of its schema; luks is an encryption there
_FORMATS = ("raw", "qcow", "qcow2", "qed", "vmdk", "vdi", "vpc", "bochs", "cloop", "dmg", "luks")
#: what its schema lets stand in texts
PLAIN = {
    "serial": re.compile(r"[A-Za-z0-9_.+ -]+\Z"),
    "vendor": re.compile(r"[ -~]{1,8}\Z"),
    "product": re.compile(r"[ -~]{1,16}\Z"),
}


def disk(drive: Drive, spec: DrivesSpec, taken: t.Set[str]) -> ET.Element:
    """One C(<disk>). C(taken): names of targets that others have; the new one is added. Raises NoWordsError."""
    device = drive.frontend
    kind = libvirt_address.kind_of(device.device, spec.machine, device.bus) if device is not None else None
    if device is None or kind is None:
        raise NoWordsError(
            "%s: a drive that is %s" % (drive.id, device.device if device is not None else "no device's")
        )
    element = ET.Element("disk", {"type": "file", "device": kind[0]})
    driver = ET.SubElement(element, "driver", {"name": "qemu"})
    if drive.backend is not None:
        _backend(drive, drive.backend, element, driver)
    _of_driver(drive, device, driver)
    target = ET.SubElement(element, "target", {"dev": libvirt_address.target_name(kind[1], taken), "bus": kind[1]})
    taken.add(target.attrib["dev"])
    _of_device(drive, device, element, target)
    _iotune(drive, spec, element)
    ET.SubElement(element, "alias", {"name": "ua-" + drive.id})
    address = libvirt_address.written(device, kind[1], spec.machine)
    if address is not None:
        ET.SubElement(element, "address", address)
    return element


def text_of(element: ET.Element) -> str:
    """XML as people read it."""
    _indent(element, 0)
    return ET.tostring(element, encoding="unicode").strip() + "\n"


def _indent(element: ET.Element, level: int) -> None:
    """As C(ET.indent) of Python 3.9."""
    children = list(element)
    for child in children:
        _indent(child, level + 1)
        child.tail = "\n" + "  " * (level + 1)
    if children:
        element.text = "\n" + "  " * (level + 1)
        children[-1].tail = "\n" + "  " * level


def _backend(drive: Drive, node: Node, element: ET.Element, driver: ET.Element) -> None:
    """The image: its format, its source, and how it is opened."""
    node = nodes.inlined(node)
    file = node.child("file")
    if not isinstance(file, Node) or len(node.children) > 1 or node.driver not in _FORMATS:
        raise NoWordsError("%s: the graph of nodes" % drive.id)
    driver.set("type", node.driver)
    try:
        source = libvirt_source.written(file.with_options(**_NOT_OF_SOURCE), element)
    except NoWordsError as exc:
        raise NoWordsError("%s: %s" % (drive.id, exc)) from exc
    secret = node.option("encrypt.key-secret") or (node.option("key-secret") if node.driver == "luks" else None)
    if secret is not None:
        kind = str(node.option("encrypt.format") or "luks")
        encryption = ET.SubElement(source, "encryption", {"format": kind})
        ET.SubElement(encryption, "secret", {"type": "passphrase", "usage": str(secret)})
        if node.driver == "luks":
            driver.set("type", "raw")
    if node.option("l2-cache-size") is not None:
        cache = ET.SubElement(ET.SubElement(driver, "metadata_cache"), "max_size", {"unit": "bytes"})
        cache.text = str(node.option("l2-cache-size"))
    if node.option("read-only") is True and element.get("device") != "cdrom":
        ET.SubElement(element, "readonly")


#: what C(<driver>) says, not C(<source>)
_NOT_OF_SOURCE: t.Dict[str, t.Any] = dict.fromkeys(
    ("read_only", "auto_read_only", "discard", "detect_zeroes", "cache__direct", "cache__no_flush", "force_share")
)


def _of_driver(drive: Drive, device: Device, driver: ET.Element) -> None:
    node = drive.backend
    told: t.Dict[str, t.Any] = {}
    if node is not None:
        through = device.property("write-cache") == "off"
        direct, no_flush = node.option("cache.direct") is True, node.option("cache.no-flush") is True
        told["cache"] = _CACHES.get((direct, no_flush, through))
        data = nodes.protocol(node)
        told.update(io=data.option("aio") if data is not None else None, discard=node.option("discard"))
        told.update(detect_zeroes=node.option("detect-zeroes"))
    for name, key in (("werror", "error_policy"), ("rerror", "rerror_policy")):
        value = device.property(name)
        told[key] = ERRORS.get(str(value), value)
    told["copy_on_read"] = "on" if drive.copy_on_read else None
    told.update(queues=device.property("num-queues"), queue_size=device.property("queue-size"))
    thread = re.match(r"iothread([1-9][0-9]*)\Z", str(device.property("iothread") or ""))
    told["iothread"] = thread[1] if thread else None
    for name, value in told.items():
        if value is not None:
            driver.set(name, str(value))


_CACHES = {
    (True, False, False): "none",
    (True, False, True): "directsync",
    (False, False, True): "writethrough",
    (False, True, False): "unsafe",
}


def _of_device(drive: Drive, device: Device, element: ET.Element, target: ET.Element) -> None:
    for name, pattern in PLAIN.items():
        if pattern.match(str(device.property(name) or "")):
            ET.SubElement(element, name).text = str(device.property(name))
    if device.property("wwn") is not None:
        ET.SubElement(element, "wwn").text = "%016x" % int(device.property("wwn") or 0)
    sizes = {name: str(device.property(name)) for name in BLOCK_SIZES if device.property(name) is not None}
    if sizes:
        ET.SubElement(element, "blockio", sizes)
    if device.property("bootindex"):  # the first is 1 there
        ET.SubElement(element, "boot", {"order": str(device.property("bootindex"))})
    if device.property("removable") is not None:
        target.set("removable", "on" if device.property("removable") else "off")
    if device.property("rotation_rate") is not None:
        target.set("rotation_rate", str(device.property("rotation_rate")))
    if device.property("share-rw") is True:
        ET.SubElement(element, "shareable")
    if drive.snapshot:
        ET.SubElement(element, "transient")


def _iotune(drive: Drive, spec: DrivesSpec, element: ET.Element) -> None:
    group = spec.object(drive.throttle) if drive.throttle else None
    if group is None:
        return
    tune = ET.SubElement(element, "iotune")
    told = {key[len("limits.") :]: value for key, value in group.properties}
    for limit, name in LIMITS.items():
        if limit in told:
            ET.SubElement(tune, name).text = str(told[limit])
    if drive.throttle != drive.id:
        ET.SubElement(tune, "group_name").text = drive.throttle


def controller(device: Device) -> t.Optional[ET.Element]:
    """C(<controller>), for those that libvirt numbers; else None."""
    match = re.match(r"(scsi|usb|ahci)([0-9]+)\Z", device.id)
    models = {
        "virtio-scsi-pci": "virtio-scsi",
        "lsi53c895a": "lsilogic",
        "megasas": "lsisas1078",
        "qemu-xhci": "qemu-xhci",
    }
    if not match or (device.device not in models and device.device != "ich9-ahci"):
        return None
    if match[1] == "ahci":
        return ET.Element("controller", {"type": "sata", "index": str(int(match[2]) + 1)})
    return ET.Element("controller", {"type": match[1], "index": match[2], "model": models[device.device]})
