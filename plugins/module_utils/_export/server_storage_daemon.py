# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""C(qemu-storage-daemon): one process for many exports, which come and go over QMP while it runs. Pure."""

from __future__ import annotations

import hashlib
import json
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._export import qemu_nodes
from ansible_collections.platter.qemu.plugins.module_utils._export.ground import Ground
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec

NAME, PROGRAM = "storage_daemon", "qemu-storage-daemon"
_SERVER = "--nbd-server="
#: a command of QMP and its arguments
Step = t.Tuple[str, t.Dict[str, t.Any]]


def cannot(spec: ExportSpec) -> str:
    """The first of the things asked that it cannot do."""
    if spec.daemon is None:
        return "serves exports that name their daemon"
    if spec.snapshot is not None:
        return "serves no snapshots"
    return qemu_nodes.cannot(spec)


def scratch(_options: t.Mapping[str, t.Any]) -> t.Sequence[str]:
    """It has all in memory."""
    return ()


def launcher(_spec: ExportSpec, _ground: Ground) -> t.List[str]:
    """It takes QEMU's lock itself."""
    return []


def command(spec: ExportSpec, ground: Ground) -> t.List[str]:
    """That of the daemon, which says nothing of its exports but where all of them are, and for whom."""
    objects = qemu_nodes.tls_objects(spec.tls, ground) if spec.tls else []
    unix = {"type": "unix", "path": spec.socket}
    server: t.Dict[str, t.Any] = {
        "addr": unix if spec.bind is None else {"type": "inet", "host": spec.bind, "port": str(spec.port)},
        "max-connections": spec.shared,
    }
    server.update({"tls-authz" if each["id"] == "authz0" else "tls-creds": each["id"] for each in objects})
    return [
        ground.program,
        "--chardev=socket,id=qmp,server=on,wait=off,path=" + ground.monitor.replace(",", ",,"),
        "--monitor=chardev=qmp",
        *("--object=" + json.dumps(each, sort_keys=True) for each in objects),
        _SERVER + json.dumps(server, sort_keys=True),
    ]


def socket_of(argv: t.Sequence[str]) -> str:
    """The Unix socket of a daemon with this command line; empty where it has none."""
    word = next((word for word in argv if word.startswith(_SERVER)), _SERVER + "{}")
    return str(json.loads(word[len(_SERVER) :]).get("addr", {}).get("path", ""))


def export_id(name: str) -> str:
    """Of an export in its daemon; they begin with a letter."""
    return "e-" + name


def export_name(export: str) -> str:
    """Of an export of that id; empty where it is none of ours."""
    return export[2:] if export.startswith("e-") else ""


def node_prefix(name: str) -> str:
    """How the names of the nodes of an export begin, whatever is served."""
    return "n%s-" % _digest(name)[:10]


def steps(spec: ExportSpec, ground: Ground) -> t.Tuple[str, t.List[Step]]:
    """The name of the node that is served, and how it is made and served. The name (31 characters at most) tells all of
    that: an export of the daemon that has such a node is served as these steps say.
    """
    export = _export(spec)
    told = [qemu_nodes.objects(spec), _node(spec, ground, qemu_nodes.Ids()), export]
    name = node_prefix(spec.name) + _digest(json.dumps(told, sort_keys=True))[:16]
    ids = qemu_nodes.Ids(name + ".limits", name + ".secret")
    made: t.List[Step] = [("object-add", each) for each in qemu_nodes.objects(spec, ids)]
    return name, [
        *made,
        ("blockdev-add", dict(_node(spec, ground, ids), **{"node-name": name})),
        ("block-export-add", dict(export, **{"node-name": name})),
    ]


def _node(spec: ExportSpec, ground: Ground, ids: qemu_nodes.Ids) -> qemu_nodes.Node:
    node = dict(qemu_nodes.image_node(spec, ground, ids), **{"read-only": spec.read_only})
    if spec.cache in ("none", "directsync"):
        node["cache"] = {"direct": True}
    if spec.discard:
        node["discard"] = "unmap"
    return node


def _export(spec: ExportSpec) -> t.Dict[str, t.Any]:
    made: t.Dict[str, t.Any] = {
        "type": "nbd",
        "id": export_id(spec.name),
        "name": spec.name,
        "writable": not spec.read_only,
    }
    if spec.cache in ("writethrough", "directsync"):
        made["writethrough"] = True
    if spec.description is not None:
        made["description"] = spec.description
    if spec.bitmaps:
        made["bitmaps"] = list(spec.bitmaps)
    if spec.allocation_depth:
        made["allocation-depth"] = True
    return made


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
