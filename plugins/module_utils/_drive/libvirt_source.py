# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Where a disk's data is, in libvirt's XML (C(<source>)) and as a protocol node. Pure.

Source: libvirt's C(docs/formatdomain.rst) and C(src/conf/schemas/storagecommon.rng), 9.0 to 11.
"""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.platter.qemu.plugins.module_utils._drive import keyval, nodes
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Node

Tree = t.Dict[str, t.Any]
_URLS = ("http", "https", "ftp", "ftps")
_PORTS = {"http": "80", "https": "443", "ftp": "21", "ftps": "990"}


class NoWordsError(Exception):
    """A sentence about what libvirt's XML has no words for."""


def written(node: Node, disk: ET.Element) -> ET.Element:
    """C(<source>) below C(disk), whose type is set with it. Raises NoWordsError."""
    tree = nodes.to_tree(node)
    driver = str(tree.pop("driver"))
    tree.pop("node-name", None)
    for known in ("aio", "locking", "reconnect-delay"):
        tree.pop(known, None)
    if driver in ("file", "host_device", "host_cdrom"):
        kind, key = ("file", "file") if driver == "file" else ("block", "dev")
        disk.set("type", kind)
        source = ET.SubElement(disk, "source", {key: _absolute(tree.pop("filename"))})
    elif driver in _WRITERS:
        disk.set("type", "network")
        source = ET.SubElement(disk, "source", {"protocol": driver})
        _WRITERS[driver](tree, source)
    else:
        raise NoWordsError("a source of the driver %s" % driver)
    delay = node.option("reconnect-delay")
    if delay is not None:
        ET.SubElement(source, "reconnect", {"delay": str(delay)})
    if tree:
        raise NoWordsError("%s of %s" % (", ".join(key for key, _value in keyval.flatten(tree)), driver))
    return source


def _absolute(path: t.Any) -> str:
    """As libvirt takes it (C(absFilePath) in C(basictypes.rng)): it has no directory that QEMU is started in."""
    if not str(path).startswith("/"):
        raise NoWordsError("%s, a path that is not absolute" % path)
    return str(path)


def _host(server: t.Optional[Tree], source: ET.Element, transport: str = "") -> None:
    if not server:
        return
    if server.get("type") == "unix":
        ET.SubElement(source, "host", {"transport": "unix", "socket": _absolute(server["path"])})
        return
    known = {"name": str(server["host"])}
    if server.get("port"):
        known["port"] = str(server["port"])
    if transport:
        known["transport"] = transport
    ET.SubElement(source, "host", known)


def _nbd(tree: Tree, source: ET.Element) -> None:
    if tree.get("export"):
        source.set("name", str(tree.pop("export")))
    _host(tree.pop("server", None), source)


def _rbd(tree: Tree, source: ET.Element) -> None:
    if "namespace" in tree or "user" in tree:
        raise NoWordsError("namespace and user of rbd (the user is libvirt's <auth>)")
    source.set("name", "%s/%s" % (tree.pop("pool"), tree.pop("image")))
    for server in tree.pop("server", ()):
        _host(server, source)
    if "snapshot" in tree:
        ET.SubElement(source, "snapshot", {"name": str(tree.pop("snapshot"))})
    if "conf" in tree:
        ET.SubElement(source, "config", {"file": _absolute(tree.pop("conf"))})


def _iscsi(tree: Tree, source: ET.Element) -> None:
    host, _colon, port = str(tree.pop("portal")).partition(":")
    if tree.pop("transport", "tcp") != "tcp":
        raise NoWordsError("iSCSI by iSER")
    source.set("name", "%s/%d" % (tree.pop("target"), tree.pop("lun", 0)))
    _host({"host": host, "port": port}, source)
    if "initiator-name" in tree:
        initiator = ET.SubElement(source, "initiator")
        ET.SubElement(initiator, "iqn", {"name": str(tree.pop("initiator-name"))})


def _gluster(tree: Tree, source: ET.Element) -> None:
    source.set("name", "%s/%s" % (tree.pop("volume"), tree.pop("path")))
    for server in tree.pop("server", ()):
        _host(server, source)


def _url(tree: Tree, source: ET.Element) -> None:
    scheme, _sep, rest = str(tree.pop("url")).partition("://")
    host, _slash, path = rest.partition("/")
    path, question, query = path.partition("?")
    source.set("name", path)
    if question:
        source.set("query", query)
    name, _colon, port = host.partition(":")
    _host({"host": name, "port": port or _PORTS[scheme]}, source)


def _ssh(tree: Tree, source: ET.Element) -> None:
    source.set("name", str(tree.pop("path")))
    _host(tree.pop("server", None), source)
    if "user" in tree:
        ET.SubElement(source, "identity", {"username": str(tree.pop("user"))})


def _nfs(tree: Tree, source: ET.Element) -> None:
    server = dict(tree.pop("server"))
    source.set("name", str(tree.pop("path")))
    _host({"host": server["host"]}, source)
    identity = {key: str(tree.pop(key)) for key in ("user", "group") if key in tree}
    if identity:
        ET.SubElement(source, "identity", {key: "+" + value for key, value in identity.items()})


_WRITERS: t.Dict[str, t.Callable[[Tree, ET.Element], None]] = {
    "nbd": _nbd,
    "rbd": _rbd,
    "iscsi": _iscsi,
    "gluster": _gluster,
    "ssh": _ssh,
    "nfs": _nfs,
    **dict.fromkeys(_URLS, _url),
}


def read(disk: ET.Element) -> t.Optional[Tree]:
    """The protocol node of a C(<disk>); None for no medium. Raises ValueError (a sentence)."""
    source = disk.find("source")
    if source is None:
        return None
    kind = disk.get("type", "file")
    tree = _read_kind(kind, source)
    delay = source.find("reconnect")
    if tree is not None and delay is not None:
        tree["reconnect-delay"] = int(delay.get("delay", "0"))
    return tree


def _read_kind(kind: str, source: ET.Element) -> t.Optional[Tree]:
    if kind == "file":
        return {"driver": "file", "filename": source.get("file")} if source.get("file") else None
    if kind == "block":
        return {"driver": "host_device", "filename": source.get("dev")} if source.get("dev") else None
    if kind == "network":
        return _read_network(source)
    raise ValueError("a disk of type %s is not known here (file, block, network)" % kind)


def _hosts(source: ET.Element, port: str) -> t.List[Tree]:
    found: t.List[Tree] = []
    for host in source.findall("host"):
        if host.get("transport") == "unix":
            found.append({"type": "unix", "path": host.get("socket", "")})
        else:
            found.append({"type": "inet", "host": host.get("name", ""), "port": host.get("port", port)})
    return found


def _plain(server: Tree) -> Tree:
    return {key: value for key, value in server.items() if key != "type"}


def _read_network(source: ET.Element) -> Tree:
    protocol, name = source.get("protocol", ""), source.get("name", "")
    if protocol == "nbd":
        servers = _hosts(source, "10809")
        return {"driver": "nbd", "server": servers[0], **({"export": name} if name else {})}
    if protocol == "rbd":
        return _read_rbd(source, name)
    if protocol == "iscsi":
        return _read_iscsi(source, name)
    if protocol == "gluster":
        volume, _slash, path = name.partition("/")
        return {"driver": "gluster", "volume": volume, "path": path, "server": _hosts(source, "24007")}
    if protocol in _URLS:
        server = _hosts(source, _PORTS[protocol])[0]
        port = "" if server["port"] == _PORTS[protocol] else ":" + server["port"]
        query = "?" + source.get("query", "") if source.get("query") else ""
        return {"driver": protocol, "url": "%s://%s%s/%s%s" % (protocol, server["host"], port, name, query)}
    if protocol in ("ssh", "nfs"):
        return _read_named(source, protocol, name)
    raise ValueError("the protocol %s of libvirt is not known here" % protocol)


def _read_rbd(source: ET.Element, name: str) -> Tree:
    pool, _slash, image = name.partition("/")
    tree: Tree = {"driver": "rbd", "pool": pool, "image": image}
    servers = [_plain(each) for each in _hosts(source, "6789")]
    snapshot, config = source.find("snapshot"), source.find("config")
    if servers:
        tree["server"] = servers
    if snapshot is not None:
        tree["snapshot"] = snapshot.get("name")
    if config is not None:
        tree["conf"] = config.get("file")
    return tree


def _read_iscsi(source: ET.Element, name: str) -> Tree:
    target, _slash, lun = name.partition("/")
    server = _hosts(source, "")[0]
    portal = ":".join(filter(None, (server["host"], server["port"])))
    tree = {"driver": "iscsi", "transport": "tcp", "portal": portal, "target": target, "lun": int(lun or 0)}
    initiator = source.find("initiator/iqn")
    return tree if initiator is None else dict(tree, **{"initiator-name": initiator.get("name")})


def _read_named(source: ET.Element, protocol: str, name: str) -> Tree:
    server, identity = _hosts(source, "22")[0], source.find("identity")
    if protocol == "ssh":
        tree: Tree = {"driver": "ssh", "path": name, "server": _plain(server)}
        return tree if identity is None else dict(tree, user=identity.get("username"))
    tree = {"driver": "nfs", "path": name, "server": {"type": "inet", "host": server["host"]}}
    for key in ("user", "group"):
        if identity is not None and identity.get(key):
            tree[key] = int(str(identity.get(key)).lstrip("+"))
    return tree
