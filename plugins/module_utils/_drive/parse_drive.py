# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""One C(-drive), as QEMU reads it (C(drive_new) and C(blockdev_init) in C(blockdev.c)). Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.platter.qemu.plugins.module_utils._drive import (
    block_options,
    devices,
    file_name,
    keyval,
    nodes,
    throttling,
)
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Node, Scalar

Tree = t.Dict[str, t.Any]

#: C(cache=): what the guest is told (write-back or not), C(cache.direct), C(cache.no-flush)
CACHE_MODES = {
    "none": (True, True, False),
    "off": (True, True, False),
    "writeback": (True, False, False),
    "unsafe": (True, False, True),
    "writethrough": (False, False, False),
    "directsync": (False, True, False),
}
#: options of the old C(-drive) that are the device's since QEMU 3.1
_OF_DEVICE = ("serial", "addr", "cyls", "heads", "secs", "rerror", "werror")
_PLACE = ("if", "bus", "unit", "index", "media")


@dataclass
class DriveLine:
    """What one C(-drive) says. C(properties): of the device that uses it. C(place): C(if), C(bus), C(unit) and so on."""

    id: str = ""
    node: t.Optional[Node] = None
    place: t.Dict[str, str] = field(default_factory=dict)
    properties: t.Dict[str, Scalar] = field(default_factory=dict)
    limits: t.Dict[str, int] = field(default_factory=dict)
    group: str = ""
    copy_on_read: bool = False
    snapshot: bool = False
    notes: t.List[str] = field(default_factory=list)

    @property
    def cdrom(self) -> bool:
        """Whether it was said to be a CD-ROM."""
        return self.place.get("media") == "cdrom"


def read(text: str) -> DriveLine:
    """Raises ValueError (a sentence) for what QEMU would not take."""
    line = DriveLine()
    backend: t.List[t.Tuple[str, t.Any]] = []
    for key, value in keyval.split(text):
        if not _take(line, key, value):
            backend.append((key, value))
    line.node = _node(backend, line)
    if line.cdrom and line.node is not None:
        line.node = line.node.with_options(read_only=True)
    return line


def _take(line: DriveLine, key: str, value: str) -> bool:
    """Take an option that is not the backend's."""
    limit = throttling.limit_of_drive(key)
    if limit:
        line.limits[limit] = block_options.integer(key, value)
    elif key in ("group", "throttling.group"):
        line.group = value
    elif key in _PLACE:
        line.place[key] = value
    elif key in _OF_DEVICE:
        line.properties[key] = devices.typed(key, value)
    elif key == "id":
        line.id = value
    elif key in ("snapshot", "copy-on-read"):
        setattr(line, key.replace("-", "_"), block_options.boolean(key, value))
    elif key in ("boot", "trans", "name"):
        line.notes.append("%s=%s of -drive means nothing since QEMU 3.1" % (key, value))
    else:
        return False
    return True


def _node(pairs: t.List[t.Tuple[str, t.Any]], line: DriveLine) -> t.Optional[Node]:
    options = dict(pairs)
    name, aio = options.pop("file", ""), options.pop("aio", "")
    _cache(options, line)
    if "readonly" in options:
        options["read-only"] = options.pop("readonly")
    driver = options.pop("format", "")
    if driver:
        options.setdefault("driver", driver)
    if not name and not any(key.split(".")[0] not in _HARMLESS for key in options):
        return None
    tree = _with_file(keyval.nest(options.items()), name, line.notes)
    node = nodes.from_tree(_modern(tree))
    return _with_aio(node, aio, line) if aio else node


#: with only these a drive has no medium
_HARMLESS = frozenset(("cache", "discard", "detect-zeroes", "read-only", "auto-read-only", "force-share", "node-name"))


def _cache(options: t.Dict[str, t.Any], line: DriveLine) -> None:
    mode = options.pop("cache", None)
    if mode is not None:
        if mode not in CACHE_MODES:
            raise ValueError("cache is %r, not one of %s" % (mode, ", ".join(CACHE_MODES)))
        writeback, direct, no_flush = CACHE_MODES[mode]
        options.setdefault("cache.writeback", writeback)
        options.setdefault("cache.direct", direct)
        options.setdefault("cache.no-flush", no_flush)
    if not block_options.boolean("cache.writeback", options.pop("cache.writeback", True)):
        line.properties["write-cache"] = "off"


def _with_file(tree: t.Dict[str, t.Any], name: str, notes: t.List[str]) -> t.Dict[str, t.Any]:
    """The tree with what a file name says: of the node itself where it is C(json:) or a protocol's, else of its C(file)."""
    if not name:
        return _with_driver_of_file(tree)
    told = file_name.read(name, notes)
    driver = tree.get("driver", "")
    if name.startswith("json:") or driver in block_options.PROTOCOLS:
        if told.get("driver", driver) != driver and driver and driver not in block_options.HOST_FILES:
            raise ValueError("the format is %s, and the name describes a node of %s" % (driver, told.get("driver")))
        return _with_driver_of_file(dict(told, **tree))
    return dict(tree, file=dict(told, **tree.get("file", {})))


def _with_driver_of_file(tree: t.Dict[str, t.Any]) -> t.Dict[str, t.Any]:
    """C(filename) below a node, without C(driver): QEMU finds that by the name."""
    return {key: _named(value) for key, value in tree.items()}


def _named(value: t.Any) -> t.Any:
    if isinstance(value, list):
        return [_named(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "driver" not in value and "filename" in value:
        told = file_name.read(str(value["filename"]))
        value = dict(told, **{key: each for key, each in value.items() if key != "filename"})
    return _with_driver_of_file(value)


def _with_aio(node: Node, aio: str, line: DriveLine) -> Node:
    found = nodes.protocol(node)
    if found is None or found.driver not in block_options.HOST_FILES:
        line.notes.append("aio=%s counts for files and devices of the host only" % aio)
        return node
    if found.option("aio") is not None:
        return node
    return nodes.changed_protocol(node, (("aio", block_options.typed(found.driver, "aio", aio)),))


def _modern(tree: Tree) -> Tree:
    """The node in today's words, where C(-drive) has older ones: C(host) and C(port) for C(server), C(tcp) for C(inet)."""
    tree = {key: _modern(value) if isinstance(value, dict) else value for key, value in tree.items()}
    driver = tree.get("driver")
    if driver in ("nbd", "ssh") and "server" not in tree and "host" in tree:
        tree["server"] = file_name.inet(tree.pop("host"), tree.pop("port", 10809 if driver == "nbd" else 22))
        if driver == "ssh":
            del tree["server"]["type"]
    if driver == "nbd" and "path" in tree:
        tree["server"] = {"type": "unix", "path": tree.pop("path")}
    if driver == "ssh" and "host_key_check" in tree:
        check = tree.pop("host_key_check")
        tree["host-key-check"] = {"mode": "none" if check == "no" else "known_hosts"}
    if driver == "gluster" and isinstance(tree.get("server"), list):
        tree["server"] = [_modern_server(server) for server in tree["server"]]
    return tree


def _modern_server(server: Tree) -> Tree:
    server = dict(server)
    if server.get("type") == "tcp":
        server["type"] = "inet"
    if "socket" in server:
        server["path"] = server.pop("socket")
    return server
