# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What QEMU would not take, or would take and do something else with, is refused before it starts. Pure.

Each refusal has its reason and a way out. The rules were tried with QEMU 7.2: C(tests/contract/_drive/test_refusals.py)
shows for each what QEMU says, or does.
"""

from __future__ import annotations

import re
import typing as t
from collections import Counter

from ansible_collections.platter.qemu.plugins.module_utils._drive import (
    block_options,
    boot,
    devices,
    finding,
    guessed,
    nodes,
    shares,
    stack,
)
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Device, Drive, DrivesSpec, Node

#: C(id_wellformed) of QEMU
_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]*\Z")
#: of a node's name, in bytes; the id of a C(-drive) is none
LONGEST_NODE_NAME = 31
#: longer ones are cut off without a word
_SERIAL_LENGTHS = {"virtio-blk": 20, "ide": 20, "nvme": 20}
_ERROR_POLICIES: t.Dict[str, t.Tuple[str, ...]] = {
    "rerror": ("report", "ignore", "stop", "auto"),
    "werror": ("report", "ignore", "stop", "auto", "enospc"),
}


Finding = finding.Finding
_refused = Finding

_SECRET = "Describe it in objects ({qom-type: secret, id: %s, file: /PATH}), or set encryption.secret_file."
#: what names an object, and how that is described
_DESCRIBED = {
    "key-secret": _SECRET,
    "password-secret": _SECRET,
    "cookie-secret": _SECRET,
    "tls-creds": "Describe it in objects: {qom-type: tls-creds-x509, id: %s, endpoint: client, dir: /DIRECTORY}.",
    "throttle-group": "Describe it in objects: {qom-type: throttle-group, id: %s, limits: {iops-total: 1000}}.",
}


def check(spec: DrivesSpec) -> None:
    """Raises SpecError with the first contradiction."""
    for each in found(spec):
        raise each.error()


def found(spec: DrivesSpec) -> t.Iterator[Finding]:
    """All contradictions, of names first, as the others build on them."""
    yield from _names(spec)
    yield from guessed.found(spec)
    for drive in spec.drives:
        if drive.backend is not None:
            yield from _of_backend(drive, drive.backend)
            yield from _of_graph(drive, spec)
        if drive.frontend is not None:
            yield from _of_device(drive, drive.frontend)
            yield from _of_both(drive, drive.frontend)
    for top in spec.nodes:
        for node in top.walk():
            yield from _secrets_of_node(top.name, node)
    yield from _together(spec)
    yield from _of_objects(spec)
    yield from shares.found(spec.shares)
    yield from boot.found(spec)


def _twice(values: t.Iterable[t.Any]) -> t.List[t.Any]:
    return [value for value, count in Counter(values).items() if count > 1]


def _names(spec: DrivesSpec) -> t.Iterator[Finding]:
    graphs = [node for each in spec.drives for node in [stack.graph(each)] if node is not None]
    node_names = [node.name for graph in [*graphs, *spec.nodes] for node in graph.walk() if node.name]
    frontends = [each.frontend for each in spec.drives if each.frontend is not None]
    frontends += [each.frontend for each in spec.shares]
    device_ids = [each.id for each in [*frontends, *spec.controllers] if each.id]
    objects = [each.id for each in spec.objects]
    drive_ids = [each.id for each in spec.drives if each.backend is None]
    for kind, names in (("nodes", node_names + drive_ids), ("devices", device_ids), ("objects", objects)):
        for name in _twice(names):
            yield _refused(
                name, "duplicate_name", "two %s have the name %s" % (kind, name), "Give each a name of its own."
            )
    for name in [*node_names, *device_ids, *objects]:
        if not _ID.match(name):
            fact = "%r is no name for QEMU" % name
            yield _refused(name, "bad_name", fact, "Begin with a letter; then letters, digits, and - . _ only.")
    inner = [node.name for each in spec.drives if each.backend is not None for node in each.backend.walk()]
    for name in [*inner, *(node.name for each in spec.nodes for node in each.walk())]:
        if len(name.encode()) > LONGEST_NODE_NAME:
            fact = "%s has more than %d bytes, which QEMU takes for no node" % (name, LONGEST_NODE_NAME)
            yield _refused(name, "bad_name", fact, "Give it a shorter name.")


def _of_backend(drive: Drive, node: Node) -> t.Iterator[Finding]:
    direct = node.option("cache.direct") is True
    for each, inherited in _with_direct(node, direct):
        if each.option("aio") == "native" and not inherited:
            fact = "aio=native without direct I/O would wait for each request, so QEMU does not take it"
            yield _refused(
                drive.id, "aio_needs_direct", fact, "Set cache.direct: true, or aio: threads (io_uring goes with both)."
            )
        for key, _value in each.options:
            unknown = block_options.unknown(each.driver, key)
            if unknown:
                yield _refused(drive.id, "unknown_option", unknown, "Correct it.")
        yield from _secrets_of_node(drive.id, each)
    top = nodes.format_node(node)
    if top.option("detect-zeroes") == "unmap" and top.option("discard") != "unmap":
        fact = "detect_zeroes=unmap frees what the guest zeroes, and discard does not allow it"
        yield _refused(drive.id, "bad_option", fact, "Set discard: unmap, or detect_zeroes: on.")


def _secrets_of_node(name: str, node: Node) -> t.Iterator[Finding]:
    """What everybody on the host can read in the arguments."""
    url = str(node.option("url") or "")
    if "://" in url and "@" in url.split("://", 1)[1].split("/")[0]:
        fact = "the URL carries a user or a password, which everybody on the host can read in the arguments"
        yield _refused(name, "secret_in_arguments", fact, "Write username and password-secret.")
    if node.option("cookie"):
        fact = "a cookie lets in whoever has it, and everybody on the host can read it in the arguments"
        way_out = "Put it into a file, as a secret (objects), and name that in cookie-secret."
        yield _refused(name, "secret_in_arguments", fact, way_out)


def _with_direct(node: Node, direct: bool) -> t.Iterator[t.Tuple[Node, bool]]:
    """Each node with whether it is opened with direct I/O: what says nothing and is described in another, as that one."""
    yield node, direct
    for child in node.inner():
        own = child.option("cache.direct")
        yield from _with_direct(child, bool(own) if own is not None else direct and not child.separate)


def _of_graph(drive: Drive, spec: DrivesSpec) -> t.Iterator[Finding]:
    known = {node.name for node in spec.all_nodes()} | {each.id for each in spec.drives}
    for node in drive.backend.walk() if drive.backend is not None else ():
        for _role, child in node.children:
            if isinstance(child, str) and child not in known:
                yield _refused(drive.id, "node_missing", "the node %s is not there" % child, "Describe it in nodes.")
        for key, value in node.options:
            described = _DESCRIBED.get(key.rpartition(".")[2])
            if described and spec.object(str(value)) is None:
                fact = "%s names the object %s, which is not there" % (key, value)
                yield _refused(drive.id, "secret_missing", fact, described % value)
    if drive.copy_on_read and drive.backend is not None and drive.backend.option("read-only") is True:
        yield _refused(
            drive.id, "bad_option", "what is read is not written to a read-only image", "Leave copy_on_read out."
        )


def _of_device(drive: Drive, device: Device) -> t.Iterator[Finding]:
    known = devices.DRIVES.get(device.device)
    for name, value in device.properties:
        if known is not None and devices.base_name(name) not in known and not name.startswith("x-"):
            fact = "a %s has no %s" % (device.device, name)
            yield _refused(drive.id, "unknown_option", fact, _other_place(device, name))
        if value not in _ERROR_POLICIES.get(name, (value,)):
            yield _refused(
                drive.id,
                "bad_option",
                "%s is %r" % (name, value),
                "Write one of %s." % ", ".join(_ERROR_POLICIES[name]),
            )
    if device.device == "nvme" and not device.property("serial"):
        yield _refused(drive.id, "serial_missing", "QEMU makes no nvme without a serial number", "Set serial.")
    serial = str(device.property("serial") or "")
    longest = next((size for kind, size in _SERIAL_LENGTHS.items() if device.device.startswith(kind)), 0)
    if longest and len(serial.encode()) > longest:
        fact = "a %s shows the first %d bytes of its serial number, and this one has %d" % (
            (device.device, longest, len(serial.encode()))
        )
        yield _refused(drive.id, "serial_too_long", fact, "Set a shorter serial.")
    yield from _block_sizes(drive, device)


def _other_place(device: Device, name: str) -> str:
    if name == "iothread" and device.device.startswith("scsi"):
        return "Set it at its controller (controllers, properties)."
    return "Leave it out, or choose another device."


def _block_sizes(drive: Drive, device: Device) -> t.Iterator[Finding]:
    sizes = {name: device.property(name) for name in ("logical_block_size", "physical_block_size")}
    for name, value in sizes.items():
        if isinstance(value, int) and (value < 512 or value & (value - 1) or value > 2 * 1024 * 1024):
            yield _refused(
                drive.id, "bad_size", "%s is %d" % (name, value), "Write a power of two from 512 to 2097152."
            )
    logical, physical = (int(value or 512) for value in sizes.values())
    if logical > physical:
        fact = "its logical blocks of %d bytes are larger than the physical ones of %d" % (logical, physical)
        yield _refused(drive.id, "bad_size", fact, "Set physical_block_size: %d or more." % logical)


def _of_both(drive: Drive, device: Device) -> t.Iterator[Finding]:
    if drive.backend is None and device.device not in devices.REMOVABLE - {"usb-storage"}:
        yield _refused(drive.id, "image_missing", "a %s has always a medium" % device.device, "Set image.")
    read_only = drive.backend is not None and nodes.format_node(drive.backend).option("read-only") is True
    if read_only and not drive.snapshot and device.device in ("ide-hd", "sd-card"):
        fact = "a guest may write to its %s, and the image is read-only" % device.device
        yield _refused(
            drive.id, "read_only_device", fact, "Use a virtio-blk-pci or scsi-hd, a CD-ROM, or snapshot: true."
        )


def _together(spec: DrivesSpec) -> t.Iterator[Finding]:
    frontends = [(each.id, each.frontend) for each in spec.drives if each.frontend is not None]
    for name in ("bootindex", "serial", "wwn"):
        values = [device.property(name) for _id, device in frontends if device.property(name) is not None]
        for value in _twice(values):
            ids = ", ".join(drive for drive, device in frontends if device.property(name) == value)
            shown = devices.text_of(name, value)
            yield _refused(ids, "duplicate_property", "they have the same %s, %s" % (name, shown), "Give each its own.")
    for place, drives in _by_place(frontends).items():
        if len(drives) > 1:
            fact = "they are at the same place, %s" % " ".join(str(part) for part in place)
            yield _refused(", ".join(drives), "duplicate_address", fact, "Give each its own.")
    yield from _same_image(spec)


def _by_place(frontends: t.Sequence[t.Tuple[str, Device]]) -> t.Dict[t.Tuple[t.Any, ...], t.List[str]]:
    found: t.Dict[t.Tuple[t.Any, ...], t.List[str]] = {}
    for drive, device in frontends:
        kind = devices.kind(device.device)
        if kind == "scsi":
            numbers: t.Tuple[str, ...] = ("channel", "scsi-id", "lun")
            placed = device.property("scsi-id") is not None and device.property("lun") is not None
        else:
            numbers = {"ide": ("unit",), "floppy": ("unit",), "usb": ("port",)}.get(kind, ("index", "addr"))
            placed = any(device.property(name) is not None for name in numbers)
        if placed and (device.bus or kind != "ide"):
            place = (kind or device.device, device.bus, *(device.property(name) or 0 for name in numbers))
            found.setdefault(place, []).append(drive)
    return found


def _same_image(spec: DrivesSpec) -> t.Iterator[Finding]:
    """QEMU's lock keeps a second writer out, unless C(share-rw) or C(locking=off) says otherwise."""
    users: t.Dict[str, t.List[Drive]] = {}
    for each in spec.drives:
        path = nodes.local_file(each.backend) if each.backend is not None else ""
        if path:
            users.setdefault(path, []).append(each)
    for path, drives in users.items():
        writing = [each for each in drives if not _reads_only(each)]
        if len(drives) > 1 and writing and not all(_shares(each) for each in drives):
            ids = ", ".join(each.id for each in drives)
            fact = "they have the same image, %s, and %s writes to it" % (path, writing[0].id)
            yield _refused(
                ids,
                "shared_image",
                fact,
                "Give each its own; or set share_rw: true at each, for a cluster file system.",
            )


def _reads_only(drive: Drive) -> bool:
    return drive.snapshot or (drive.backend is not None and drive.backend.option("read-only") is True)


def _shares(drive: Drive) -> bool:
    return _reads_only(drive) or (drive.frontend is not None and drive.frontend.property("share-rw") is True)


def _of_objects(spec: DrivesSpec) -> t.Iterator[Finding]:
    for each in spec.objects:
        if each.kind == "secret" and each.property("data") is not None and each.property("keyid") is None:
            fact = "the secret stands in the arguments, where everybody on the host can read it"
            yield _refused(each.id, "secret_in_arguments", fact, "Put it into a file, and set file instead of data.")
        limits = dict(each.properties)
        for what in ("bps", "iops"):
            for end in ("", "-max"):
                total = limits.get("limits.%s-total%s" % (what, end))
                if total and any(limits.get("limits.%s-%s%s" % (what, kind, end)) for kind in ("read", "write")):
                    fact = "a limit of all %s%s, and one of those read or written" % (what, end)
                    yield _refused(each.id, "bad_option", fact, "Set the total, or the two others.")
