# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What the drives of a VM open: files and devices of the host, and places on servers. Pure."""

from __future__ import annotations

import json
import re
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._drive import block_options
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Drive, DrivesSpec, Node

#: options that say how something is opened, not what it is
_HOW_TEXT = (
    "reconnect-delay open-timeout timeout readahead tls-creds tls-hostname debug logfile tcp-syn-count readahead-size"
    " page-cache-size sslverify cookie-secret username password-secret user conf key-secret initiator-name header-digest"
    " x-dirty-bitmap auth-client-required server.numeric server.to server.ipv4 server.ipv6 server.keep-alive server.type"
)
_HOW = frozenset((*_HOW_TEXT.split(), *block_options.COMMON))
#: what has nothing behind it, and what nobody can write to
_NOTHING = frozenset(("null-co", "null-aio"))
_READ_ONLY = frozenset(("http", "https", "ftp", "ftps"))
#: the option by which a driver names something in the file system of the host
LOCAL = {
    "file": "filename",
    "host_device": "filename",
    "host_cdrom": "filename",
    "io_uring": "filename",
    "nvme-io_uring": "path",
    "virtio-blk-vfio-pci": "path",
    "virtio-blk-vhost-user": "path",
    "virtio-blk-vhost-vdpa": "path",
    "vvfat": "dir",
}
#: drivers that pass on what is below them, and the role of that
_FILTERS_TEXT = "throttle copy-on-read preallocate compress copy-before-write snapshot-access blklogwrites replication"
_FILTERS = dict(dict.fromkeys(_FILTERS_TEXT.split(), "file"), blkdebug="image", blkreplay="image", blkverify="test")
_DEFAULTS: t.Dict[str, t.Dict[str, t.Any]] = {"nbd": {"export": ""}, "iscsi": {"lun": 0}, "rbd": {"namespace": ""}}
#: at the end of an address
_PORT = re.compile(r":[0-9]+\Z")
#: a format that QEMU is left to guess (C(-hda))
GUESSED = "?"
#: formats whose tables are not changed while a guest writes, so that two QEMUs can have one image
_PLAIN = frozenset(("", "raw", "luks"))


class Claim(t.NamedTuple):
    """C(name): a path, or a text that is the same for the same place. C(format): of the image in it; empty for bytes.

    C(chain): what its header names as its backing file is opened too. C(sharable): a second VM can write to it as well.
    """

    drive: str
    local: bool
    name: str
    writes: bool
    format: str = ""
    chain: bool = True
    sharable: bool = True

    @property
    def declared(self) -> t.Optional[str]:
        """The format that is said; None where QEMU guesses it."""
        return None if self.format == GUESSED else self.format


class _Above(t.NamedTuple):
    """What the nodes above make of one: the format of its data, and whether that opens what its header names."""

    format: str = ""
    chain: bool = True
    sharable: bool = True


def of_spec(spec: DrivesSpec) -> t.List[Claim]:
    """All that is opened: by drives, and by nodes that no drive names, under their own names.

    A node or a drive without a device that others name is what those make of it, such as a backing file.
    """
    nodes = {node.name: node for node in spec.all_nodes() if node.name}
    nodes.update({each.id: each.backend for each in spec.drives if each.backend is not None})
    named = {child for node in spec.all_nodes() for _role, child in node.children if isinstance(child, str)}
    found: t.List[Claim] = []
    for drive in spec.drives:
        if drive.backend is not None and (drive.frontend is not None or drive.id not in named):
            found += _of_node(drive.id, drive.backend, _writes(drive), nodes, _Above())
    for node in spec.nodes:
        if node.name not in named:
            found += _of_node(node.name, node, True, nodes, _Above())
    return list(dict.fromkeys(found))


def _writes(drive: Drive) -> bool:
    return not drive.snapshot and (drive.backend is None or drive.backend.option("read-only") is not True)


def _of_node(drive: str, node: Node, writes: bool, nodes: t.Mapping[str, Node], above: _Above) -> t.Iterator[Claim]:
    writes = writes and node.option("read-only") is not True
    if node.driver in LOCAL:
        writes = writes and (node.driver != "vvfat" or node.option("rw") is True)
        name = str(node.option(LOCAL[node.driver]) or "")
        yield Claim(drive, True, name, writes, above.format, above.chain, above.sharable)
    elif not node.children and node.driver not in _NOTHING:  # on a server, also by a driver that is not known here
        writes = writes and node.driver not in _READ_ONLY
        yield Claim(drive, False, _place(node), writes, above.format, above.chain, above.sharable)
    for role, child in node.children:
        below = nodes.get(child) if isinstance(child, str) else child
        if below is not None:
            others = {name: each for name, each in nodes.items() if name != child}
            yield from _of_node(drive, below, writes and role != "backing", others, _seen_as(node, role, above))


def _seen_as(node: Node, role: str, above: _Above) -> _Above:
    """What C(node) makes of the node in one of its roles."""
    own = _FILTERS.get(node.driver, "children" if node.driver == "quorum" else "file")
    if role.partition(".")[0] != own:
        return _Above(sharable=False)
    if node.driver in _FILTERS or node.driver == "quorum":
        return above
    if node.driver == "raw" and above.format:  # behind a first byte of its own there is no header that we read
        window = node.option("offset") or node.option("size")
        return above._replace(format="", sharable=False) if window else above
    said = "backing" in dict(node.options) or node.child("backing") is not None
    format = "" if _is_bytes(node) else node.driver or GUESSED
    return _Above(format, not said, above.sharable and format in _PLAIN)


def _is_bytes(node: Node) -> bool:
    """Whether that says of the file that it is no image: raw in a window of it, also one that begins with it (C(offset: 0));
    or the data of LUKS, whose header is elsewhere.
    """
    if node.driver == "raw":
        return node.option("offset") is not None or node.option("size") is not None
    return node.driver == "luks" and node.child("header") is not None


def words_for(claim: Claim) -> str:
    """The place as a sentence names it."""
    driver, _space, told = claim.name.partition(" ")
    if claim.local or driver != "nbd":
        return claim.name
    options = json.loads(told)
    host = ":".join(str(options[name]) for name in ("server.host", "server.port") if name in options)
    return "export %r of the NBD server at %s" % (options["export"], options.get("server.path") or host)


def _place(node: Node) -> str:
    """With what QEMU takes where nothing is said, and hosts in one form: two names of one disk would be two disks."""
    told = {key: value for key, value in node.options if key not in _HOW}
    options = dict(_DEFAULTS.get(node.driver, {}), **told)
    if node.driver == "iscsi":
        options.pop("transport", None)  # how it is reached
        portal = str(options.get("portal", ""))
        options["portal"] = _host(portal if _PORT.search(portal) else portal + ":3260")
    hosts = {key: _host(str(value)) for key, value in options.items() if key.rpartition(".")[2] == "host"}
    return "%s %s" % (node.driver, json.dumps({**options, **hosts}, sort_keys=True))


def _host(name: str) -> str:
    return "localhost" if name in ("127.0.0.1", "::1") else name.lower()
