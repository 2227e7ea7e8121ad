# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Block nodes from trees, as JSON and dotted options describe them, and back. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._drive import block_options, keyval
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import (
    Node,
    Options,
    Scalar,
    sorted_children,
    sorted_options,
)

#: what a node takes over from the one it is described in, and its value otherwise (C(bdrv_inherited_options) in block.c)
INHERITED = {"cache.direct": False, "cache.no-flush": False, "force-share": False, "read-only": False}
#: what people write before the rest
_FIRST = (
    "filename",
    "server.type",
    "server.host",
    "server.port",
    "server.path",
    "url",
    "export",
    "pool",
    "portal",
    "target",
)
_DEFAULTS: t.Dict[str, Scalar] = dict(INHERITED, **{"discard": "ignore", "detect-zeroes": "off"})


def from_tree(tree: t.Mapping[str, t.Any], *, top: bool = True) -> Node:
    """The node that a blockdev tree describes, with all that are described in it. Raises ValueError (a sentence).

    C(top): it inherits nothing, so that an option with its default says nothing and is left out.
    """
    driver = keyval.plain(tree.get("driver", ""))
    options: t.Dict[str, Scalar] = {}
    children: t.List[t.Tuple[str, t.Union[Node, str]]] = []
    for key, value in tree.items():
        if key in ("driver", "node-name"):
            continue
        if key == "backing" and value == "":  # as -drive says that there is none
            value = None
        if block_options.is_child(driver, key) and value is not None:
            children += _children(key, value)
            continue
        for leaf, inner in _leaves(key, value):
            options[leaf] = block_options.typed(driver, leaf, inner)
    if top:
        options = {key: value for key, value in options.items() if key not in _DEFAULTS or value != _DEFAULTS[key]}
    return Node(driver, sorted_options(options), sorted_children(dict(children)), str(tree.get("node-name") or ""))


def _leaves(key: str, value: t.Any) -> t.Iterator[t.Tuple[str, t.Any]]:
    if isinstance(value, (t.Mapping, list, tuple)) and not value:
        raise ValueError("%s is empty" % key)
    yield from keyval.flatten(value, key)


def _children(key: str, value: t.Any) -> t.List[t.Tuple[str, t.Union[Node, str]]]:
    if isinstance(value, (list, tuple)):
        return [pair for number, each in enumerate(value) for pair in _children("%s.%d" % (key, number), each)]
    if isinstance(value, t.Mapping):
        return [(key, from_tree(value, top=False))]
    return [(key, str(value))]


def to_tree(node: Node) -> t.Dict[str, t.Any]:
    """The blockdev tree of a node, in the order people write it; separate nodes in it by their names."""
    pairs: t.List[t.Tuple[str, t.Any]] = [("driver", node.driver)] if node.driver else []
    if node.name:
        pairs.append(("node-name", node.name))
    tree = keyval.nest(
        pairs + sorted(node.options, key=lambda pair: _FIRST.index(pair[0]) if pair[0] in _FIRST else len(_FIRST))
    )
    for role, child in node.children:
        value = child if isinstance(child, str) else child.name if child.separate else to_tree(child)
        _put(tree, role, value)
    return tree


def _put(tree: t.Dict[str, t.Any], role: str, value: t.Any) -> None:
    key, dot, _number = role.partition(".")
    if dot:
        tree.setdefault(key, []).append(value)
    else:
        tree[key] = value


def to_pairs(node: Node) -> t.List[t.Tuple[str, Scalar]]:
    """The dotted options of a node and all that are described in it."""
    return list(keyval.flatten(to_tree(node)))


def inlined(node: Node) -> Node:
    """The same node with separate ones described in it, where they say themselves what they would else inherit."""
    children = tuple((role, _inlined_child(child)) for role, child in node.children)
    return replace(node, children=children)


def _inlined_child(child: t.Union[Node, str]) -> t.Union[Node, str]:
    if isinstance(child, str):
        return child
    if child.separate:
        own: t.Dict[str, Scalar] = dict(_DEFAULTS, **dict(child.options))
        child = replace(child, options=sorted_options(own), separate=False)
    return inlined(child)


def protocol(node: Node) -> t.Optional[Node]:
    """The node with the data of the uppermost layer: down by C(file) to the last one that is described here."""
    below = node.child("file")
    if isinstance(below, Node):
        return protocol(below)
    return None if isinstance(below, str) or node.driver not in block_options.PROTOCOLS else node


def format_node(node: Node) -> Node:
    """The uppermost node that is no filter."""
    below = node.child("file")
    if node.driver in ("throttle", "copy-on-read", "preallocate", "compress") and isinstance(below, Node):
        return format_node(below)
    return node


def changed_protocol(node: Node, options: Options) -> Node:
    """With options set at the protocol node."""
    below = node.child("file")
    if not isinstance(below, Node):
        return replace(node, options=sorted_options(dict(node.options, **dict(options))))
    children = dict(node.children, file=changed_protocol(below, options))
    return replace(node, children=sorted_children(children))


def local_file(node: Node) -> str:
    """The file or device of the host that the uppermost layer is in; else empty."""
    found = protocol(node)
    return str(found.option("filename") or "") if found and found.driver in block_options.HOST_FILES else ""
