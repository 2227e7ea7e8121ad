# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What the drives of a VM open: files and devices of the host, and places on servers. Pure."""

from __future__ import annotations

import json
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
#: what has nothing behind it
_NOTHING = frozenset(("null-co", "null-aio"))


class Claim(t.NamedTuple):
    """C(name): a path, or a text that is the same for the same place. C(format): of the image in that file, as far as a
    node says it.
    """

    drive: str
    local: bool
    name: str
    writes: bool
    format: str = ""


def of_spec(spec: DrivesSpec) -> t.List[Claim]:
    """All that the drives claim; each once, to be written to if any part of the drive writes."""
    named = {node.name: node for top in spec.nodes for node in top.walk() if node.name}
    found: t.Dict[t.Tuple[str, bool, str], Claim] = {}
    for drive in spec.drives:
        if drive.backend is None:
            continue
        for claim in _of_node(drive.id, drive.backend, _writes(drive), named, ""):
            known = found.get(claim[:3])
            if known is None or claim.writes > known.writes:
                found[claim[:3]] = claim
    return list(found.values())


def _writes(drive: Drive) -> bool:
    return not drive.snapshot and (drive.backend is None or drive.backend.option("read-only") is not True)


def _of_node(drive: str, node: Node, writes: bool, named: t.Mapping[str, Node], above: str) -> t.Iterator[Claim]:
    """C(above): the driver of the node that this one is the file of."""
    writes = writes and node.option("read-only") is not True
    if node.driver in block_options.HOST_FILES:
        yield Claim(drive, True, str(node.option("filename") or ""), writes, above)
    elif node.driver in block_options.PROTOCOLS and node.driver not in _NOTHING:
        yield Claim(drive, False, _place(node), writes)
    for role, child in node.children:
        below = named.get(child) if isinstance(child, str) else child
        if below is not None:
            others = {name: each for name, each in named.items() if name != child}
            format = node.driver if role == "file" else ""
            yield from _of_node(drive, below, writes and role != "backing", others, format)


def _place(node: Node) -> str:
    options = {key: value for key, value in node.options if key not in _HOW}
    if node.driver == "nbd":
        options.setdefault("export", "")
    return "%s %s" % (node.driver, json.dumps(options, sort_keys=True))
