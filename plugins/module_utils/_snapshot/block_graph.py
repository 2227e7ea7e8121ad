# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The block graph of a running QEMU: which node is which file, and what is built on what. Read-only."""

from __future__ import annotations

import hashlib
import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._formats import registry
from ansible_collections.platter.qemu.plugins.module_utils._inspect import block_use, json_name
from ansible_collections.platter.qemu.plugins.module_utils._inspect.chain import resolve_backing
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.target import there
from ansible_collections.platter.qemu.plugins.module_utils._tools import qmp_graph
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp

Node = t.Mapping[str, t.Any]


class BlockGraph:
    """The nodes of one QEMU at one moment (C(qmp_graph.look))."""

    def __init__(self, qmp: Qmp) -> None:
        found = qmp_graph.look(qmp)
        #: the ids of all jobs
        self.jobs = found.jobs
        self._nodes = found.nodes
        self._below = found.below
        self._users = found.users

    def node(self, name: str) -> Node:
        """A node's facts."""
        return t.cast(Node, self._nodes[name])

    def file_of(self, name: str) -> t.Optional[str]:
        """The path of a format node's file, as QEMU knows it; None for nodes of other kinds."""
        if self._nodes[name]["drv"] not in registry.FORMAT_NAMES:
            return None
        return file_of_name(str(self._nodes[name].get("file", "")))

    def nodes_on(self, path: str) -> t.List[str]:
        """The format nodes on a file."""
        which = block_use.identity_of(path)
        return [name for name in self._nodes if which is not None and self._identity(name) == which]

    def reachable(self, name: str) -> t.Set[str]:
        """The nodes below a node."""
        found: t.Set[str] = set()
        todo = [name]
        while todo:
            for _edge, child in self._below.get(todo.pop(), ()):
                if child not in found:
                    found.add(child)
                    todo.append(child)
        return found

    def chain(self, name: str) -> t.List[str]:
        """The format nodes from a node down, each the backing node of the one before; filters between are left out."""
        found = []
        current: t.Optional[str] = name
        while current is not None:
            if self.file_of(current) is not None:
                found.append(current)
            edges = dict(self._below.get(current, ()))
            current = edges.get("backing") or (edges.get("file") if self.file_of(current) is None else None)
        return found

    def over_filters(self, name: str) -> str:
        """The uppermost node that is a format node, or a filter of it."""
        over = {
            child: parent for parent in self._below for _edge, child in self._below[parent] if self._filters(parent)
        }
        while name in over:
            name = over[name]
        return name

    def _filters(self, name: str) -> bool:
        return name in self._nodes and self._nodes[name]["drv"] in qmp_graph.FILTERS

    def disks_on(self, files: t.Collection[block_use.Identity]) -> t.List[str]:
        """The format nodes that guests (or exports) see, of which one of these files is a part.

        Nodes that nobody uses count only where nobody uses any: one that QEMU has left may still lie on another.
        """
        ours = {name for name in self._nodes if self._identity(name) in files}
        for tops in (self._tops(self._users), self._tops(self._nodes)):
            found = [name for name in tops if name in ours or self.reachable(name) & ours]
            if found:
                return found
        return []

    def uses(self, path: str) -> bool:
        """Whether a guest (or an export) has the file open, as a disk or below one; nodes that are left do not count."""
        return any(self.is_part(path, top) for top in self._tops(self._users))

    def is_part(self, path: str, name: str) -> bool:
        """Whether a node is on the file, or on another node that is."""
        return bool(set(self.nodes_on(path)) & {name, *self.reachable(name)})

    def is_used(self, name: str) -> bool:
        """Whether a guest (or an export) sees the node as a disk; not after the device was unplugged."""
        return name in self._tops(self._users)

    def _tops(self, names: t.Iterable[str]) -> t.List[str]:
        """The uppermost format node below each of these nodes; not those that are part of another."""
        tops = list(dict.fromkeys(top for name in sorted(names) for top in self.chain(name)[:1]))
        below = {child for top in tops for child in self.reachable(top)}
        return [top for top in tops if top not in below]

    def _identity(self, name: str) -> t.Optional[block_use.Identity]:
        path = self.file_of(name)
        return block_use.identity_of(there(path)) if path else None

    def writable_files(self) -> t.Dict[str, str]:
        """The files of all disks that a guest can write to: file -> node."""
        used = self._tops(name for name in self._users if not self._nodes[name].get("ro"))
        return {os.path.realpath(there(str(self.file_of(top)))): top for top in used}


def file_of_name(text: str) -> t.Optional[str]:
    """The absolute path in what QEMU calls a node's file: the path itself, or C(json:) with it somewhere inside."""
    text = json_name.file_of_node(text) if text.startswith("json:") else text
    kind, target = resolve_backing("/", text) if text.startswith("/") else ("", "")
    return target if kind == "file" else None


def job_id(verb: str, path: str) -> str:
    """The same for every run that merges this file: C(commit) into it, or C(stream) into it."""
    return "platter-%s-%s" % (verb, hashlib.sha256(os.fsencode(path)).hexdigest()[:12])
