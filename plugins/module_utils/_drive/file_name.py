# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a file name on QEMU's command line stands for: the protocol node behind C(/path), C(nbd://...), C(json:{...}). Pure.

Sources: QEMU's manual (Disk Images, Device URL Syntax), C(block/nbd.c), C(block/rbd.c), C(block/nvme.c), C(block/vvfat.c).
Whether a path is a block device only the host can tell: here names in C(/dev) are, but those in C(/dev/shm).
"""

from __future__ import annotations

import json
import re
import typing as t
from urllib.parse import parse_qs, unquote, urlsplit

from ansible_collections.platter.qemu.plugins.module_utils._core import nbd_uri
from ansible_collections.platter.qemu.plugins.module_utils._drive import keyval

Tree = t.Dict[str, t.Any]
_CDROM = re.compile(r"/dev/(sr[0-9]+|scd[0-9]+|cdrom[0-9]*|dvd[0-9]*|cdrw)\Z")
_PREFIX = re.compile(r"([A-Za-z][A-Za-z0-9+._-]*):")


def local_tree(path: str) -> Tree:
    """The node of a file or device of the host."""
    if _CDROM.match(path):
        return {"driver": "host_cdrom", "filename": path}
    device = path.startswith("/dev/") and not path.startswith(("/dev/shm/", "/dev/fd/", "/dev/fdset/", "/dev/std"))
    return {"driver": "host_device" if device else "file", "filename": path}


def read(name: str, notes: t.Optional[t.List[str]] = None) -> Tree:
    """The node a name stands for; C(json:) can describe more than a protocol node.

    Raises ValueError (a sentence) for a protocol that is not known here. What has no place in a node, as a password, is
    left out and told in C(notes); without those it is an error, too.
    """
    prefix = _PREFIX.match(name)
    if name.startswith("/") or not prefix or "/" in name[: prefix.end()]:
        return local_tree(name)
    scheme = prefix.group(1).lower()
    if scheme == "json":
        return _json(name[5:])
    reader = _READERS.get(scheme)
    if reader is None:
        raise ValueError("%r: the protocol %s: is not known here; a file of that name is ./%s" % (name, scheme, name))
    left_out: t.List[str] = []
    tree = reader(name, left_out)
    if left_out and notes is None:
        raise ValueError(left_out[0])
    if notes is not None:
        notes += left_out
    return tree


def _json(text: str) -> Tree:
    try:
        tree = json.loads(text)
    except ValueError as exc:
        raise ValueError("the text after json: is no JSON (%s)" % exc) from exc
    if not isinstance(tree, dict):
        raise ValueError("the text after json: is no JSON object")
    return keyval.nest(keyval.flatten(tree))


def _after(name: str) -> str:
    return name.split(":", 1)[1]


def _query(name: str) -> t.Dict[str, str]:
    return {key: values[-1] for key, values in parse_qs(urlsplit(name).query, keep_blank_values=True).items()}


def _file(name: str, _unused: t.List[str]) -> Tree:
    return local_tree(_after(name)[2:] if _after(name).startswith("//") else _after(name))


def _host_device(name: str, _unused: t.List[str]) -> Tree:
    return {"driver": name.split(":", 1)[0], "filename": _after(name)}


def _nbd(name: str, _unused: t.List[str]) -> Tree:
    if "://" in name:
        address = nbd_uri.parse(name)
        if address.tls:
            raise ValueError("%r: TLS needs credentials, which a URI cannot name" % name)
        server = inet(address.host, address.port) if address.host else {"type": "unix", "path": address.socket}
        return _nbd_tree(server, address.export)
    text, _sep, export = _after(name).partition(":exportname=")
    if text.startswith("unix:"):
        return _nbd_tree({"type": "unix", "path": text[len("unix:") :]}, export)
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError("%r is not nbd:host:port, nbd:unix:path or a URI" % name)
    return _nbd_tree(inet(host.strip("[]"), port), export)


def _nbd_tree(server: t.Mapping[str, str], export: str) -> Tree:
    tree: Tree = {"driver": "nbd", "server": server}
    return dict(tree, export=export) if export else tree


def inet(host: t.Optional[str], port: t.Any) -> t.Dict[str, str]:
    """The address of a server."""
    return {"type": "inet", "host": host or "", "port": str(port)}


def _curl(name: str, left_out: t.List[str]) -> Tree:
    scheme, _sep, rest = name.partition("://")
    login, at, place = rest.partition("/")[0].rpartition("@")
    tree: Tree = {"driver": scheme.lower(), "url": name}
    if at:
        user, colon, _password = login.partition(":")
        tree.update(url="%s://%s%s" % (scheme, place, rest[len(login) + 1 + len(place) :]), username=unquote(user))
        left_out += [_PASSWORD] if colon else []
    return tree


_PASSWORD = (
    "the URI carries a password, which everybody on the host can read in the arguments;"
    " describe the node with a user name and password-secret"
)


def _ssh(name: str, left_out: t.List[str]) -> Tree:
    parts = urlsplit(name)
    left_out += [_PASSWORD] if parts.password is not None else []
    tree: Tree = {"driver": "ssh", "path": unquote(parts.path), "server": inet(parts.hostname, parts.port or 22)}
    del tree["server"]["type"]
    if parts.username:
        tree["user"] = unquote(parts.username)
    check = _query(name).get("host_key_check")
    if check in ("yes", "no"):
        tree["host-key-check"] = {"mode": "known_hosts" if check == "yes" else "none"}
    elif check:
        kind, _colon, value = check.partition(":")
        tree["host-key-check"] = {"mode": "hash", "type": kind, "hash": value}
    return tree


def _iscsi(name: str, left_out: t.List[str]) -> Tree:
    parts = urlsplit(name)
    target, slash, lun = parts.path.lstrip("/").partition("/")
    user, percent, _password = (parts.username or "").partition("%")
    left_out += [_PASSWORD] if percent or parts.password is not None else []
    if not slash or not lun.isdigit():
        raise ValueError("%r is not iscsi://host[:port]/target/lun" % name)
    portal = parts.netloc.rpartition("@")[2]
    tree: Tree = {"driver": "iscsi", "transport": "iser" if parts.scheme == "iser" else "tcp", "portal": portal}
    tree.update(target=unquote(target), lun=int(lun))
    if user:
        tree["user"] = unquote(user)
    return tree


def _gluster(name: str, _unused: t.List[str]) -> Tree:
    parts = urlsplit(name)
    volume, slash, path = unquote(parts.path).lstrip("/").partition("/")
    if not slash:
        raise ValueError("%r is not gluster://host/volume/path" % name)
    if parts.scheme.endswith("+unix"):
        server = {"type": "unix", "path": _query(name).get("socket", "")}
    else:
        server = inet(parts.hostname, parts.port or 24007)
    return {"driver": "gluster", "volume": volume, "path": path, "server": [server]}


def _nfs(name: str, _unused: t.List[str]) -> Tree:
    parts = urlsplit(name)
    tree: Tree = {
        "driver": "nfs",
        "server": {"type": "inet", "host": parts.hostname or ""},
        "path": unquote(parts.path),
    }
    known = {"uid": "user", "gid": "group", "tcp-syncnt": "tcp-syn-count", "readahead": "readahead-size"}
    known.update({"pagecache": "page-cache-size", "debug": "debug"})
    tree.update({known[key]: int(value) for key, value in _query(name).items() if key in known})
    return tree


def _rbd(name: str, left_out: t.List[str]) -> Tree:
    """C(rbd:pool[/namespace]/image[@snapshot][:option=value]*), a colon in a value escaped by a backslash."""
    where, *options = [re.sub(r"\\(.)", r"\1", part) for part in re.split(r"(?<!\\):", _after(name))]
    path, at, snapshot = where.partition("@")
    parts = path.split("/")
    if len(parts) not in (2, 3):
        raise ValueError("%r is not rbd:pool/image" % name)
    tree: Tree = {"driver": "rbd", "pool": parts[0], "image": parts[-1]}
    if len(parts) == 3:
        tree["namespace"] = parts[1]
    if at:
        tree["snapshot"] = snapshot
    for option in options:
        key, _equals, value = option.partition("=")
        _rbd_option(tree, key, value, left_out)
    return tree


def _rbd_option(tree: Tree, key: str, value: str, left_out: t.List[str]) -> None:
    if key in ("id", "conf"):
        tree["user" if key == "id" else key] = value
    elif key == "auth_supported":
        tree["auth-client-required"] = value.split(";")
    elif key == "mon_host":
        hosts = [each.rpartition(":") for each in value.split(";")]
        tree["server"] = [
            {"host": (host or port).strip("[]"), "port": port if host else "6789"} for host, _c, port in hosts
        ]
    elif key == "key":
        left_out.append("the name carries a key of Ceph, which everybody on the host can read; use key-secret")
    else:
        left_out.append("the option %s of rbd: can be set in Ceph's configuration file only" % key)


def _nvme(name: str, _unused: t.List[str]) -> Tree:
    device, slash, number = _after(name).lstrip("/").partition("/")
    if not slash or not number.isdigit():
        raise ValueError("%r is not nvme://0000:00:00.0/1" % name)
    return {"driver": "nvme", "device": device, "namespace": int(number)}


def _fat(name: str, _unused: t.List[str]) -> Tree:
    """C(fat:[12:|16:|32:][floppy:][rw:]directory)."""
    rest = _after(name)
    tree: Tree = {"driver": "vvfat"}
    words = {"rw": ("rw", True), "floppy": ("floppy", True)}
    words.update({each: ("fat-type", int(each)) for each in ("12", "16", "32")})  # type: ignore[misc]
    while rest.split(":", 1)[0] in words and ":" in rest:
        word, _colon, rest = rest.partition(":")
        tree[words[word][0]] = words[word][1]
    return dict(tree, dir=rest)


def _sheepdog(name: str, _unused: t.List[str]) -> Tree:
    if "://" in name:
        parts = urlsplit(name)
        return {
            "driver": "sheepdog",
            "server": inet(parts.hostname, parts.port or 7000),
            "vdi": unquote(parts.path).lstrip("/"),
        }
    *address, vdi = _after(name).split(":")
    host, port = ([*address, "7000"])[:2] if address else ("localhost", "7000")
    return {"driver": "sheepdog", "server": inet(host, port), "vdi": vdi}


_READERS: t.Dict[str, t.Callable[[str, t.List[str]], Tree]] = {
    "file": _file,
    "host_device": _host_device,
    "host_cdrom": _host_device,
    "nbd": _nbd,
    "nbd+tcp": _nbd,
    "nbd+unix": _nbd,
    "nbds": _nbd,
    "http": _curl,
    "https": _curl,
    "ftp": _curl,
    "ftps": _curl,
    "ssh": _ssh,
    "iscsi": _iscsi,
    "iser": _iscsi,
    "gluster": _gluster,
    "gluster+tcp": _gluster,
    "gluster+unix": _gluster,
    "gluster+rdma": _gluster,
    "nfs": _nfs,
    "rbd": _rbd,
    "nvme": _nvme,
    "fat": _fat,
    "sheepdog": _sheepdog,
    "sheepdog+tcp": _sheepdog,
}
