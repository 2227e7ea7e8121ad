# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The server of a device whose disk the kernel cannot read by itself: its command line, and what that says. Pure.

C(qemu-storage-daemon) opens an image in its format, or an export of another host, and shows the disk as a file by FUSE, or
exports it to the kernel's own NBD client.
"""

from __future__ import annotations

import json
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import nbd_uri
from ansible_collections.platter.qemu.plugins.module_utils._device.spec import DeviceSpec

PROGRAM = "qemu-storage-daemon"
#: QEMU takes keys from a directory, under a name of its own
PSK_NAME = "keys.psk"
#: the name of the disk for the kernel
EXPORT = "disk"


class Ground(t.NamedTuple):
    """What a command line is made from beside the task. C(target): the file behind the image's name; C(block): it is a
    block device; C(program): the server's absolute path; C(directory): of the server.
    """

    target: str
    block: bool
    program: str
    directory: str


class Served(t.NamedTuple):
    """What a server shows."""

    source: str
    format: str
    read_only: bool
    direct_io: bool
    offset: int = 0
    limit: int = 0


def pid_file(directory: str) -> str:
    """By this word of its command line, and the path behind it, a server is found."""
    return directory + "/pid"


def disk_file(directory: str) -> str:
    """Where the disk is shown as a file."""
    return directory + "/disk"


def socket_file(directory: str) -> str:
    """Where it is exported to the kernel."""
    return directory + "/socket"


def is_direct(spec: DeviceSpec) -> bool:
    """Whether the kernel's own NBD client needs no server of ours: it knows no TLS, and no parts of exports."""
    return spec.address is not None and not spec.address.tls and not spec.offset and spec.size is None


def argv_of(spec: DeviceSpec, ground: Ground, kind: str) -> t.Tuple[str, ...]:
    """It leaves the play by itself once it serves. The format is told; all nodes are JSON, so that names are only names.

    Of what is attached by a loop device, that chooses the part.
    """
    if kind == "loop" or (kind == "nbd" and is_direct(spec)):
        return ()
    node = _window(spec, image_node(spec, ground)) if kind == "nbd" else image_node(spec, ground)
    node.update({"node-name": "disk", "read-only": spec.read_only})
    if spec.direct_io:
        node["cache"] = {"direct": True}
    words = [ground.program, "--daemonize", "--pidfile", pid_file(ground.directory)]
    words += ["--object", _json(_credentials(spec, ground.directory))] if spec.certificates or spec.psk_file else []
    words += ["--blockdev", _json(node)]
    export: t.Dict[str, t.Any] = {"id": "disk", "node-name": "disk", "writable": not spec.read_only}
    if kind == "nbd":
        server = {"addr": {"type": "unix", "path": socket_file(ground.directory)}}
        return (*words, "--nbd-server", _json(server), "--export", _json(dict(export, type="nbd", name=EXPORT)))
    return (*words, "--export", _json(dict(export, type="fuse", mountpoint=disk_file(ground.directory))))


def _window(spec: DeviceSpec, node: t.Dict[str, t.Any]) -> t.Dict[str, t.Any]:
    """A raw image needs no second node for it."""
    if not spec.offset and spec.size is None:
        return node
    part: t.Dict[str, t.Any] = {"driver": "raw", "offset": spec.offset}
    part.update({"size": spec.size} if spec.size is not None else {})
    return dict(part, file=node["file"] if node["driver"] == "raw" else node)


def image_node(spec: DeviceSpec, ground: Ground) -> t.Dict[str, t.Any]:
    """The blockdev tree of the disk, without what only a server needs."""
    if spec.address is not None:
        return {"driver": "raw", "file": _nbd_node(spec)}
    protocol = {"driver": "host_device" if ground.block else "file", "filename": ground.target}
    return {"driver": spec.format, "file": protocol}


def _nbd_node(spec: DeviceSpec) -> t.Dict[str, t.Any]:
    """It does not connect again: that would hide that writes were lost."""
    address = t.cast(nbd_uri.Address, spec.address)
    if address.socket:
        server = {"type": "unix", "path": address.socket}
    else:
        server = {"type": "inet", "host": address.host, "port": str(address.port)}
    node: t.Dict[str, t.Any] = {"driver": "nbd", "server": server, "export": address.export}
    if address.tls:
        node["tls-creds"] = "tls0"
        node.update({"tls-hostname": spec.hostname} if spec.hostname else {})
    return node


def _credentials(spec: DeviceSpec, directory: str) -> t.Dict[str, t.Any]:
    made: t.Dict[str, t.Any] = {"id": "tls0", "endpoint": "client", "verify-peer": True}
    if spec.psk_file:
        made.update({"qom-type": "tls-creds-psk", "dir": directory, "username": spec.username})
        return made
    return dict(made, **{"qom-type": "tls-creds-x509", "dir": spec.certificates})


def parse(argv: t.Sequence[str]) -> t.Optional[Served]:
    """What the server of that command line shows; None where it is none of ours."""
    try:
        top = json.loads(argv[argv.index("--blockdev") + 1])
        node = top["file"] if "file" in top["file"] else top
        file = node["file"]
        source = str(_address(file)) if file["driver"] == "nbd" else str(file["filename"])
        part = int(top.get("offset", 0)), int(top.get("size", 0))
        return Served(source, str(node["driver"]), bool(top["read-only"]), "cache" in top, *part)
    except (ValueError, LookupError, TypeError):
        return None


def _address(node: t.Mapping[str, t.Any]) -> nbd_uri.Address:
    server, export, tls = node["server"], str(node["export"]), "tls-creds" in node
    if server["type"] == "unix":
        return nbd_uri.Address(export, socket=server["path"], tls=tls)
    return nbd_uri.Address(export, host=server["host"], port=int(server["port"]), tls=tls)


def _json(value: t.Any) -> str:
    return json.dumps(value, sort_keys=True)
