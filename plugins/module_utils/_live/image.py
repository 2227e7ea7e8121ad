# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What is told of an image by its node, what is not, and names that stand for the latter. Pure."""

from __future__ import annotations

import hashlib
import json
import re
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._drive import block_options, file_name, nodes
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import (
    Drive,
    Node,
    Options,
    Scalar,
    sorted_options,
)

#: of the options of a node those that C(query-named-block-nodes) tells, with their defaults
SHOWN: t.Dict[str, Scalar] = {
    "cache.direct": False,
    "cache.no-flush": False,
    "read-only": False,
    "detect-zeroes": "off",
}
#: which C(blockdev-reopen) changes under a device
REOPENED = frozenset(("cache.direct", "cache.no-flush", "detect-zeroes"))
#: filters that stand above an image (C(stack), C(nodes.format_node))
FILTERS = ("throttle", "copy-on-read", "preallocate", "compress")
HOST_FILES = block_options.HOST_FILES
#: what tells the data of one place from that of others; of drivers that are not here: all they have
_PLACES = {
    "file": ("filename",),
    "host_device": ("filename",),
    "host_cdrom": ("filename",),
    "nbd": ("server.host", "server.port", "server.path", "export"),
    "ssh": ("server.host", "server.port", "path"),
    "http": ("url",),
    "https": ("url",),
    "ftp": ("url",),
    "ftps": ("url",),
    "iscsi": ("portal", "target", "lun"),
    "rbd": ("pool", "namespace", "image", "snapshot"),
    "nfs": ("server.host", "path"),
    "gluster": ("volume", "path"),
    "nvme": ("device", "namespace"),
}
_DEFAULTS: t.Dict[str, Scalar] = {"server.port": "10809", "export": "", "lun": 0}
#: names of nodes that only this collection gives: the mark, four digits for the drive's id, and a number
_MARKED = re.compile(r"platter\.([0-9a-f]{10})\.([0-9a-f]{4})\.[0-9]+\Z")
#: a medium that is opened for a try
TRIED = "platter.tried"


def shown(node: Node) -> Options:
    """The options of a node that QEMU will tell, without defaults."""
    return sorted_options({key: value for key, value in node.options if key in SHOWN and value != SHOWN[key]})


def place(node: Node) -> str:
    """Where the data of a graph's uppermost layer is: a path, or text that is the same for the same place; else empty."""
    found = nodes.protocol(node)
    return place_of(found) if found is not None else ""


def place_of(node: Node) -> str:
    """The same for a protocol node."""
    wanted = _PLACES.get(node.driver, tuple(key for key, _value in node.options))
    if wanted == ("filename",):
        return str(node.option("filename") or "")
    has = {key: node.option(key) for key in wanted}
    kept = {key: str(value) for key, value in has.items() if value not in (None, _DEFAULTS.get(key, ""))}
    return json.dumps([node.driver, kept], sort_keys=True)


def place_told(text: str, driver: str) -> str:
    """The same from what QEMU calls the file of a protocol node; empty where that does not say it."""
    try:
        tree = file_name.read(text, [])
        if tree.get("driver") in HOST_FILES and driver not in HOST_FILES:
            return ""
        return place(nodes.from_tree(tree))
    except ValueError:
        return ""


def mark(drive: Drive) -> str:
    """Ten digits for all that a drive's nodes have, and QEMU does not tell, and for what they are on.

    Of nodes that are described apart only their names count, wherever they are described: they have marks of their own.
    """
    if drive.backend is None:
        return ""
    top = nodes.format_node(drive.backend)
    bare = _bare(drive.backend, dict(top.options), top)
    text = json.dumps(nodes.to_tree(bare), sort_keys=True)
    return _digits(text, 10)


def _digits(text: str, count: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:count]


def _bare(node: Node, above: t.Mapping[str, Scalar], top: t.Optional[Node]) -> Node:
    """Without names, without what is inherited anyway, and C(top) without what QEMU tells."""
    options = dict(node.options)
    effective = {key: options.get(key, above.get(key, value)) for key, value in nodes.INHERITED.items()}
    dropped = (
        SHOWN
        if node is top or node.driver in FILTERS
        else {key: value for key, value in effective.items() if value == above.get(key, nodes.INHERITED[key])}
    )
    kept = sorted_options({key: value for key, value in options.items() if key not in dropped})
    children = tuple(
        (role, child if isinstance(child, str) else child.name if child.separate else _bare(child, effective, top))
        for role, child in node.children
    )
    return replace(node, name="", options=kept, children=children, separate=False)


def marked(graph: Node, drive: Drive) -> Node:
    """The graph with names for all nodes that have none, which carry the drive's mark, or that of a node described apart."""
    return _named(graph, _stands_for(drive), iter(range(1, 1000)))


def _stands_for(drive: Drive) -> str:
    return "%s.%s" % (mark(drive), _digits(drive.id, 4))


def _named(node: Node, stands_for: str, numbers: t.Iterator[int]) -> Node:
    name = node.name or "platter.%s.%d" % (stands_for, next(numbers))
    children = tuple(
        (role, child if isinstance(child, str) else _apart(child) or _named(child, stands_for, numbers))
        for role, child in node.children
    )
    return replace(node, name=name, children=children)


def _apart(node: Node) -> t.Optional[Node]:
    drive = Drive(node.name, replace(node, separate=False))
    return replace(marked(node, drive), separate=True) if node.separate else None


def mark_in(names: t.Iterable[str], top: str) -> str:
    """The mark that names of nodes carry of the drive whose uppermost node is C(top); empty where none does."""
    own = _MARKED.match(top)
    if own is not None:  # of a drive that cannot have its node called by its own name
        return own.group(1)
    found = (_MARKED.match(name) for name in names)
    return next((each.group(1) for each in found if each is not None and each.group(2) == _digits(top, 4)), "")


def is_ours(name: str) -> bool:
    """Whether only this collection gives such a name."""
    return name.startswith(TRIED) or bool(_MARKED.match(name))


def tried(trees: t.Sequence[t.Mapping[str, t.Any]]) -> t.List[t.Dict[str, t.Any]]:
    """The same nodes under other names, for a try."""
    names = {str(name): "%s.%d" % (TRIED, number) for number, name in enumerate(_names(list(trees)))}
    return [t.cast(t.Dict[str, t.Any], _renamed(tree, names)) for tree in trees]


def _names(tree: t.Any) -> t.Iterator[t.Any]:
    if isinstance(tree, t.Mapping):
        yield from [tree["node-name"]] if "node-name" in tree else []
        tree = list(tree.values())
    if isinstance(tree, list):
        for each in tree:
            yield from _names(each)


def _renamed(tree: t.Any, names: t.Mapping[str, str], key: str = "") -> t.Any:
    if isinstance(tree, t.Mapping):
        driver = str(tree.get("driver", ""))
        return {
            name: _renamed(each, names, name if block_options.is_child(driver, name) or name == "node-name" else "")
            for name, each in tree.items()
        }
    if isinstance(tree, list):
        return [_renamed(each, names, key) for each in tree]
    return names.get(tree, tree) if key and isinstance(tree, str) else tree
