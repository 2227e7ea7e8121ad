# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Drives as tasks describe them, and as results show them: what C(read_spec) reads. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._drive import (
    block_options,
    boot,
    definitions,
    devices,
    file_name,
    nodes,
    settings,
    shares,
)
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import (
    Device,
    Drive,
    DrivesSpec,
    Node,
    Object,
    Scalar,
)

Facts = t.Dict[str, t.Any]


def of_spec(spec: DrivesSpec) -> Facts:
    """All drives of a VM."""
    facts: Facts = {"machine": spec.machine, "drives": [of_drive(each, spec) for each in spec.drives]}
    threads = {each.frontend.property("iothread") for each in spec.drives if each.frontend is not None}
    groups = {each.throttle for each in spec.drives}
    objects = [
        definitions.object_tree(each)
        for each in spec.objects
        if not (each.kind == "iothread" and not each.properties and each.id in threads)
        and not (each.kind == "throttle-group" and each.id in groups)
    ]
    own = [each for drive in spec.drives if drive.backend is not None for each in definitions.separate(drive.backend)]
    shared = [inner for each in spec.nodes for inner in [*definitions.separate(each), each]]
    lists: Facts = {
        "controllers": [_controller(each) for each in spec.controllers],
        "objects": objects,
        "nodes": [nodes.to_tree(each) for each in own + shared],
        "shares": [shares.to_facts(each) for each in spec.shares],
        "boot": boot.to_facts(spec.boot) if spec.boot is not None else {},
        "shared_memory": spec.shared_memory,
    }
    facts.update({name: value for name, value in lists.items() if value})
    return facts


def _controller(device: Device) -> Facts:
    facts: Facts = {"device": device.device}
    facts.update({name: value for name, value in (("id", device.id), ("bus", device.bus)) if value})
    if device.properties:
        facts["properties"] = dict(device.properties)
    return facts


def of_drive(drive: Drive, spec: DrivesSpec) -> Facts:
    """One drive."""
    facts: Facts = {"id": drive.id}
    if drive.backend is not None:
        facts.update(_backend(drive.backend))
    if drive.frontend is not None:
        facts.update(_frontend(drive.frontend, drive.id, facts))
    facts.update({name: True for name in ("copy_on_read", "snapshot") if getattr(drive, name)})
    if drive.throttle:
        facts["throttle"] = _throttle(drive, spec.object(drive.throttle))
    return facts


def _throttle(drive: Drive, group: t.Optional[Object]) -> Facts:
    limits = group.properties if group is not None else ()
    facts: Facts = {} if drive.throttle == drive.id else {"group": drive.throttle}
    facts.update({key[len("limits.") :].replace("-", "_"): value for key, value in limits})
    return facts or {"group": drive.throttle}


def _frontend(device: Device, drive_id: str, facts: Facts) -> Facts:
    found: Facts = {"device": device.device}
    if device.id != drive_id:
        found["device_id"] = device.id
    if device.bus:
        found["bus"] = device.bus
    names = {qemu: name for name, qemu in settings.OF_DEVICE.items()}
    properties: Facts = {}
    for key, value in device.properties:
        if key == "write-cache" and value in ("on", "off"):
            found["cache"] = dict(facts.get("cache", {}), writeback=value == "on")
        elif key in names:
            found[names[key]] = devices.text_of(key, value)
        else:
            properties[key] = devices.text_of(key, value)
    return dict(found, properties=properties) if properties else found


def _backend(node: Node) -> Facts:
    short = _short(node)
    return short if short is not None else {"image": {"blockdev": nodes.to_tree(node)}}


def _short(node: Node) -> t.Optional[Facts]:
    """By a path and a format, and the drive's own settings; None where that does not say it all."""
    file = node.child("file")
    plain = isinstance(file, Node) and len(node.children) == 1 and not (node.name or file.name or file.separate)
    if not plain or node.driver in block_options.PROTOCOLS or not isinstance(file, Node):
        return None
    path = str(file.option("filename") or "")
    rest = dict(file.options)
    rest.pop("filename", None)
    if not path or _tree(path) != {"driver": file.driver, "filename": path} or set(rest) - {"aio", "locking"}:
        return None
    image: Facts = {"path": path}
    if node.driver:
        image["format"] = node.driver
    return dict(_settings(node, image), **rest)


def _tree(path: str) -> t.Optional[t.Dict[str, t.Any]]:
    try:
        return file_name.read(path)
    except ValueError:
        return None


def _settings(node: Node, image: Facts) -> Facts:
    facts: Facts = {"image": image}
    names = {qemu: name for name, qemu in settings.OF_NODE.items()}
    options: t.Dict[str, Scalar] = {}
    for key, value in node.options:
        if key in ("cache.direct", "cache.no-flush"):
            facts.setdefault("cache", {})[key[len("cache.") :].replace("-", "_")] = value
        elif key in names:
            facts[names[key]] = value
        elif key == "encrypt.key-secret" or (node.driver, key) == ("luks", "key-secret"):
            facts.setdefault("encryption", {})["secret"] = value
        elif key == "encrypt.format":
            facts.setdefault("encryption", {})["format"] = value
        else:
            options[key] = value
    if options:
        image["options"] = options
    return facts


def image_of(format: str, tree: t.Mapping[str, t.Any]) -> Facts:
    """C(image) of a format on a protocol node, by its path where that says it all."""
    path = str(tree.get("filename") or "")
    if path and _tree(path) == dict(tree):
        return {"path": path, "format": format}
    return {"blockdev": {"driver": format, "file": dict(tree)}}
