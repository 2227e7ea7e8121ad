# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Drives from libvirt's C(<disk>), as tasks describe them. Pure."""

from __future__ import annotations

import re
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.platter.qemu.plugins.module_utils._drive import (
    devices,
    facts,
    libvirt,
    libvirt_address,
    libvirt_source,
    throttling,
)

Task = t.Dict[str, t.Any]


def parse(text: str, machine: str = "") -> t.Tuple[t.List[Task], str, t.List[str]]:
    """The drives in a C(<disk>), in several, or in a C(<domain>), as tasks describe them; the machine; and notes.

    Raises ValueError (a sentence).
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("libvirt's XML has no document type")
    try:
        root = ET.fromstring("<drives>%s</drives>" % re.sub(r"^\s*<\?xml[^>]*\?>", "", text))
    except ET.ParseError as exc:
        raise ValueError("this is no XML (%s)" % exc) from exc
    kind = root.find(".//os/type")
    machine = devices.family((kind.get("machine") if kind is not None else "") or machine or "pc")
    notes: t.List[str] = []
    tasks = [_read(each, machine, notes) for each in root.iter("disk")]
    return tasks, machine, notes + list(_left_out(root))


def _left_out(root: ET.Element) -> t.Iterator[str]:
    """What is described beside drives, and is not read from XML."""
    for name in ("kernel", "initrd", "cmdline"):
        if root.find(".//os/" + name) is not None:
            yield "the %s of <os> is not read; describe it in boot" % name
    for each in root.iter("filesystem"):
        target = each.find("target")
        tag = target.get("dir", "") if target is not None else ""
        yield "the <filesystem> %s is not read; describe it in shares" % tag


def _read(element: ET.Element, machine: str, notes: t.List[str]) -> Task:
    target = element.find("target")
    if target is None:
        raise ValueError("a <disk> without <target>")
    name = target.get("dev", "")
    alias = element.find("alias")
    if alias is not None and alias.get("name", "").startswith("ua-"):
        name = alias.get("name", "")[len("ua-") :]
    bus = target.get("bus") or _bus_of(target.get("dev", ""))
    kind = element.get("device", "disk")
    task: Task = {"id": name, "device": libvirt_address.device_of(kind, bus)}
    task.update(_read_backend(element, kind, name, notes))
    task.update(libvirt_address.read(element.find("address"), bus, machine))
    task.update(_read_device(element, target))
    tune = _read_iotune(element)
    if tune:
        task["throttle"] = tune
    return task


def _bus_of(dev: str) -> str:
    """What libvirt takes where C(<target>) has no bus."""
    return {"vd": "virtio", "sd": "scsi", "hd": "ide", "fd": "fdc"}.get(dev[:2], "")


def _read_backend(element: ET.Element, kind: str, name: str, notes: t.List[str]) -> Task:
    """The image, where there is one, and what C(<driver>) says."""
    driver = element.find("driver")
    told = dict(driver.attrib) if driver is not None else {}
    tree = libvirt_source.read(element)
    task = _read_driver(element, told)
    if tree is None:
        return {key: value for key, value in task.items() if key not in _OF_IMAGE}
    format, encryption = told.get("type") or "raw", element.find(".//encryption")
    if not told.get("type"):
        notes.append("the format of %s is not given, so libvirt takes raw" % name)
    if encryption is not None:
        format = "luks" if format == "raw" else format
        task["encryption"] = _read_encryption(encryption, format)
    if element.find("readonly") is not None and kind != "cdrom":
        task["read_only"] = True
    if element.find("backingStore/source") is not None:
        notes.append("the backing files of %s are those that its header names" % name)
    return dict(task, image=facts.image_of(format, tree))


#: settings without a meaning where there is no medium
_OF_IMAGE = ("aio", "discard", "detect_zeroes", "l2_cache_size")
#: C(<driver>) and its attributes: the task's name for each
_DRIVER = {
    "io": "aio",
    "discard": "discard",
    "detect_zeroes": "detect_zeroes",
    "error_policy": "werror",
    "rerror_policy": "rerror",
    "cache": "cache",
}


def _read_driver(element: ET.Element, told: t.Mapping[str, str]) -> Task:
    spelled = {value: key for key, value in libvirt.ERRORS.items()}
    task: Task = {_DRIVER[key]: spelled.get(value, value) for key, value in told.items() if key in _DRIVER}
    if task.get("cache") == "default":
        del task["cache"]
    task.update({setting: int(told[setting]) for setting in ("queues", "queue_size") if told.get(setting)})
    if told.get("iothread"):
        task["iothread"] = "iothread" + told["iothread"]
    if told.get("copy_on_read") == "on":
        task["copy_on_read"] = True
    size = element.find("driver/metadata_cache/max_size")
    if size is not None:
        unit = size.get("unit", "bytes")
        task["l2_cache_size"] = "%s%s" % (size.text, "" if unit == "bytes" else unit)
    if element.find("transient") is not None:
        task["snapshot"] = True
    return task


def _read_encryption(encryption: ET.Element, format: str) -> Task:
    secret = encryption.find("secret")
    known = secret.get("usage") or secret.get("uuid") if secret is not None else None
    task: Task = {"secret": known or "unknown"}
    return task if format == "luks" else dict(task, format=encryption.get("format", "luks"))


def _read_device(element: ET.Element, target: ET.Element) -> Task:
    task: Task = {name: element.findtext(name) for name in libvirt.PLAIN if element.findtext(name)}
    properties: Task = {name: task.pop(name) for name in ("vendor", "product") if name in task}
    if element.findtext("wwn"):
        task["wwn"] = "0x" + str(element.findtext("wwn"))
    sizes = element.find("blockio")
    if sizes is not None:
        task.update({name: int(sizes.get(name, "")) for name in libvirt.BLOCK_SIZES if sizes.get(name)})
    boot = element.find("boot")
    if boot is not None:
        task["bootindex"] = int(boot.get("order", "0"))
    if target.get("rotation_rate"):
        task["rotation_rate"] = int(target.get("rotation_rate", "0"))
    if target.get("removable"):
        properties["removable"] = target.get("removable")
    if element.find("shareable") is not None:
        task["share_rw"] = True
    return dict(task, properties=properties) if properties else task


def _read_iotune(element: ET.Element) -> Task:
    tune = element.find("iotune")
    if tune is None:
        return {}
    task: Task = {}
    for limit in throttling.LIMITS:
        value = tune.findtext(libvirt.LIMITS[limit])
        if value and int(value):
            task[limit.replace("-", "_")] = int(value)
    if tune.findtext("group_name"):
        task["group"] = tune.findtext("group_name")
    return task
