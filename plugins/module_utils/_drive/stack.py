# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The filter nodes that stand for C(copy-on-read) and throttling where QEMU has them as nodes (C(-blockdev)). Pure."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._drive import nodes
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import (
    Drive,
    Node,
    Object,
    Scalar,
    sorted_options,
)

#: what a filter must say too, or it would keep it from what is below
_PASSED = ("read-only", "auto-read-only", "discard", "force-share")


def graph(drive: Drive) -> t.Optional[Node]:
    """The whole graph of a drive, its uppermost node by the drive's id; None where it has no medium."""
    node = drive.backend
    if node is None:
        return None
    passed = {name: node.option(name) for name in _PASSED if node.option(name) is not None}
    if drive.copy_on_read:
        node = _filter("copy-on-read", passed, node)
    if drive.throttle:
        node = _filter("throttle", dict(passed, **{"throttle-group": drive.throttle}), node)
    return replace(node, name=drive.id)


def _filter(driver: str, options: t.Mapping[str, Scalar], below: Node) -> Node:
    return Node(driver, sorted_options(options), (("file", below),))


def taken_apart(drive: Drive, objects: t.Sequence[Object]) -> Drive:
    """The drive of a graph: filters at its top become properties of the drive, where they are as C(graph) makes them."""
    if drive.backend is None:
        return drive
    throttle, node = _below(drive.backend, "throttle")
    group = str(throttle.option("throttle-group")) if throttle else ""
    if group and not any(each.id == group and each.kind == "throttle-group" for each in objects):
        group, node = "", drive.backend
    copying, node = _below(node, "copy-on-read")
    top = nodes.from_tree(nodes.to_tree(node)) if not _has_separate(node) else node
    made = Drive(drive.id, _unnamed(top, drive), drive.frontend, group, copying is not None)
    if graph(made) == replace(drive.backend, name=drive.id):
        return made
    return replace(drive, backend=_unnamed(drive.backend, drive))


def _below(node: Node, driver: str) -> t.Tuple[t.Optional[Node], Node]:
    below = node.child("file")
    return (node, below) if node.driver == driver and isinstance(below, Node) else (None, node)


def _has_separate(node: Node) -> bool:
    return any(each.separate for each in node.walk())


def _unnamed(node: Node, drive: Drive) -> Node:
    """Without the name that is the drive's own."""
    return replace(node, name="") if node.name == drive.id else node
