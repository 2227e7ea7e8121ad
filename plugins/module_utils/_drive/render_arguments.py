# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Drives as arguments of QEMU, in each of the generations of its options. Pure."""

from __future__ import annotations

import json
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._drive import (
    block_options,
    contradictions,
    definitions,
    devices,
    file_name,
    keyval,
    nodes,
    places,
)
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Drive, DrivesSpec, Node, Object

Pairs = t.List[t.Tuple[str, t.Any]]
_SHORT = {("floppy", 0): "-fda", ("floppy", 1): "-fdb", ("ide", 0): "-hda", ("ide", 1): "-hdb", ("ide", 3): "-hdd"}
_ORDER = ("file", "driver", "format", "if", "index", "media", "id")
_CACHE = {(False, False): "", (True, False): "none", (False, True): "unsafe"}


class CannotSayError(Exception):
    """A sentence about what a style has no words for at all."""


def blockdev(spec: DrivesSpec, form: str = "json") -> t.List[str]:
    """C(-blockdev) and C(-device). C(form): how nodes are written, C(json) or C(keys)."""
    for drive in spec.drives:
        if drive.snapshot:
            raise CannotSayError("%s: -blockdev has no snapshot; make an overlay" % drive.id)
        if drive.frontend is not None and drive.frontend.device == "mtd":
            raise CannotSayError("%s: mtd is an interface of -drive only" % drive.id)
        if drive.backend is not None and len(drive.id.encode()) > contradictions.LONGEST_NODE_NAME:
            raise CannotSayError("%s: its node has this name, and more than 31 bytes are none" % drive.id)
    return [word for each in definitions.all_of(spec) for word in _argument(each, form)]


def _argument(each: definitions.Definition, form: str) -> t.List[str]:
    pairs = list(keyval.flatten(each.told))
    if each.kind == "blockdev":
        in_json = form == "json" or any(value is None for _key, value in pairs)
    else:
        in_json = any(isinstance(value, (dict, list)) for value in each.told.values())
    if in_json:
        return ["-" + each.kind, json.dumps(each.told, separators=(",", ":"), ensure_ascii=False)]
    return ["-" + each.kind, _keys(each.kind, pairs)]


def _keys(kind: str, pairs: Pairs) -> str:
    """Devices and objects by keys, which every QEMU takes; in JSON only those from 6.2 and 6.0 on. But what is nested (the
    limits of a throttle group, queues of several iothreads) has no keys.
    """
    pairs = [(key, devices.text_of(key, value)) for key, value in pairs] if kind == "device" else pairs
    if kind in ("device", "object"):
        return ",".join([keyval.escaped(pairs[0][1])] + ([keyval.join(pairs[1:])] if pairs[1:] else []))
    return keyval.join(pairs)


def drive_device(spec: DrivesSpec) -> t.List[str]:
    """C(-drive if=none) and C(-device)."""
    _refuse_nodes(spec)
    found = [word for each in definitions.needed(_without_groups(spec)) for word in _argument(each, "keys")]
    for drive in spec.drives:
        found += _drive_and_device(drive, spec)
    return found


def _drive_and_device(drive: Drive, spec: DrivesSpec) -> t.List[str]:
    device = drive.frontend
    if device is not None and device.device in devices.OF_THE_MACHINE:
        return _one_line(drive, places.Place(device.device, 0, int(device.property("index") or 0)), spec)
    if drive.backend is None and device is not None and device.id == drive.id:
        return _argument(definitions.frontend(device, ""), "keys")
    found = _drive_argument([*_backend(drive), ("if", "none"), ("id", drive.id), *_drive_options(drive, spec, False)])
    return found + (_argument(definitions.frontend(device, drive.id), "keys") if device is not None else [])


def drive(spec: DrivesSpec) -> t.List[str]:
    """C(-drive if=), where the machine makes the device."""
    _refuse_nodes(spec)
    objects = tuple(each for each in _without_groups(spec).objects if each.kind != "iothread")
    found = [
        word
        for each in definitions.needed(replace(spec, objects=objects, controllers=()))
        for word in _argument(each, "keys")
    ]
    for each, place in _placed(spec):
        found += _one_line(each, place, spec)
    return found


def _one_line(drive: Drive, place: places.Place, spec: DrivesSpec) -> t.List[str]:
    cdrom = drive.frontend is not None and drive.frontend.device in devices.CDROMS
    pairs = [*_backend(drive), ("if", place.interface)]
    if place.interface != "none":
        pairs.append(("index", places.index_of(place, spec.machine)))
    if cdrom:
        pairs = [pair for pair in pairs if pair[0] != "read-only"] + [("media", "cdrom")]
    if place.interface == "none" or drive.id != places.default_id(place, spec.machine, cdrom):
        pairs.append(("id", drive.id))
    return _drive_argument(pairs + _drive_options(drive, spec, True))


def _drive_argument(pairs: Pairs) -> t.List[str]:
    """In the order in which people write it."""
    order = {name: number for number, name in enumerate(_ORDER)}
    return ["-drive", keyval.join(sorted(pairs, key=lambda pair: order.get(pair[0], len(order))))]


def hda(spec: DrivesSpec) -> t.List[str]:
    """C(-hda), C(-cdrom), C(-fda), C(-pflash), C(-sd), C(-mtdblock): the name of a file and nothing else."""
    _refuse_nodes(spec)
    found: t.List[str] = []
    for each, place in _placed(spec):
        option = _short_option(each, place, spec)
        name = nodes.local_file(each.backend) if each.backend is not None else ""
        if not option or not name:
            raise CannotSayError(
                "%s: -hda and the like are for files on the machine's own ide, floppy, pflash and sd" % each.id
            )
        found += [option, name]
    return found


def _short_option(drive: Drive, place: places.Place, spec: DrivesSpec) -> str:
    if place.interface in ("pflash", "sd", "mtd"):
        return "-" + {"mtd": "mtdblock"}.get(place.interface, place.interface)
    if place.interface not in ("floppy", places.default_interface(spec.machine)):
        return ""
    index = places.index_of(place, spec.machine)
    if index == 2 and place.interface != "floppy":
        return "-cdrom" if drive.frontend and drive.frontend.device in devices.CDROMS else "-hdc"
    return _SHORT.get((place.interface if place.interface == "floppy" else "ide", index), "")


def _placed(spec: DrivesSpec) -> t.Iterator[t.Tuple[Drive, places.Place]]:
    """Each drive with the place where the machine makes its device."""
    taken: t.List[places.Place] = []
    for each in spec.drives:
        if each.frontend is None:
            yield each, places.Place("none", 0, 0)
            continue
        place = places.place_of(each.frontend, spec.machine, taken)
        if place is None or place.interface == "scsi":
            raise CannotSayError("%s: no machine makes a %s of -drive if= there" % (each.id, each.frontend.device))
        taken.append(place)
        yield each, place


def _refuse_nodes(spec: DrivesSpec) -> None:
    if spec.nodes:
        raise CannotSayError("%s: -drive has no nodes of their own" % spec.nodes[0].name)
    for each in spec.drives:
        for node in each.backend.walk() if each.backend is not None else ():
            if any(isinstance(child, str) for _role, child in node.children):
                raise CannotSayError("%s: -drive cannot name a node that is described elsewhere" % each.id)


def _without_groups(spec: DrivesSpec) -> DrivesSpec:
    """C(-drive) has its groups by itself; those stay that a filter node of a graph names."""
    named = {node.option("throttle-group") for node in spec.all_nodes() if node.driver == "throttle"}
    objects: t.Iterable[Object] = (each for each in spec.objects if each.kind != "throttle-group" or each.id in named)
    return replace(spec, objects=tuple(objects))


def _backend(drive: Drive) -> Pairs:
    """The node as options of C(-drive), by a file's name and a format where that says it."""
    if drive.backend is None:
        return []
    node = nodes.inlined(drive.backend)
    file = node.child("file")
    pairs = [
        (key, "" if value is None and block_options.is_backing(key) else value) for key, value in nodes.to_pairs(node)
    ]
    if not isinstance(file, Node) or not _plain_name(file):
        return _with_cache(pairs)
    rest = [pair for pair in pairs if pair[0] not in ("driver", "file.driver", "file.filename")]
    aio = [(key[len("file.") :] if key == "file.aio" else key, value) for key, value in rest]
    short: Pairs = [("file", file.option("filename"))]
    return short + ([("format", node.driver)] if node.driver else []) + _with_cache(aio)


def _plain_name(file: Node) -> bool:
    """Whether QEMU finds the node's driver and name by the name alone."""
    name = str(file.option("filename") or "")
    try:
        return bool(name) and file_name.read(name) == {"driver": file.driver, "filename": name}
    except ValueError:
        return False


def _with_cache(pairs: Pairs) -> Pairs:
    """With C(cache=MODE) for the two options of a node; the guest's part of it (C(write-cache)) is the device's."""
    told = dict(pairs)
    mode = _CACHE.get((told.get("cache.direct") is True, told.get("cache.no-flush") is True))
    if not mode:
        return pairs
    return [pair for pair in pairs if not pair[0].startswith("cache.")] + [("cache", mode)]


def _drive_options(drive: Drive, spec: DrivesSpec, alone: bool) -> Pairs:
    """What C(-drive) says of more than the node. C(alone): there is no C(-device) to say the rest."""
    pairs: Pairs = [(name, True) for name in ("copy-on-read", "snapshot") if getattr(drive, name.replace("-", "_"))]
    if drive.throttle:
        group = spec.object(drive.throttle)
        limits = group.properties if group is not None else ()
        pairs += [("throttling." + key[len("limits.") :], value) for key, value in limits]
        pairs += [("throttling.group", drive.throttle)] if drive.throttle != drive.id else []
    if alone and drive.frontend is not None:
        pairs += [
            (name, drive.frontend.property(name)) for name in ("rerror", "werror") if drive.frontend.property(name)
        ]
        if drive.frontend.property("write-cache") == "off":
            pairs.append(("cache.writeback", False))
    return pairs
