# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The block graph of a running QEMU, as media of its drives. Read-only."""

from __future__ import annotations

import json
import os
import stat
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Scalar, sorted_options
from ansible_collections.platter.qemu.plugins.module_utils._live import image
from ansible_collections.platter.qemu.plugins.module_utils._live.state import Idle, Medium
from ansible_collections.platter.qemu.plugins.module_utils._tools import block_device, qmp_graph


class Media:
    """C(directory): of the QEMU's process, for relative names."""

    def __init__(self, graph: qmp_graph.QmpGraph, directory: str) -> None:
        self._graph = graph
        self._directory = directory
        self._above: t.Dict[str, t.Set[str]] = {}
        for name, edges in graph.below.items():
            for _role, child in edges:
                self._above.setdefault(child, set()).add(name)

    @property
    def names(self) -> t.FrozenSet[str]:
        """Those that somebody gave to nodes."""
        return frozenset(name for name in self._graph.nodes if not name.startswith("#"))

    def idle(self) -> t.Tuple[Idle, ...]:
        """What nobody uses."""
        return tuple(Idle(top, self._named(top)) for top in sorted(self._graph.tops))

    def of(self, node: str) -> Medium:
        """What a device is on whose uppermost node this is."""
        filters = list(self._filters(node))
        below = self._child(filters[-1], "file") if filters else node
        told = self._graph.nodes[below]
        names = self._named(node)
        group = next((self._group(each) for each in filters if self._driver(each) == "throttle"), "")
        path = self.place(below)
        size = int((told.get("image") or {}).get("virtual-size") or 0)
        return Medium(
            node,
            names,
            str(told["drv"]),
            path,
            _shown(told),
            self._mark(node),
            group,
            any(self._driver(each) == "copy-on-read" for each in filters),
            tuple(filter(None, (self.place(each) for each in self._chain(below)))),
            below,
            tuple(self._graph.below.get(below, ())),
            size,
            self._file_size(below, path),
        )

    def _file_size(self, node: str, path: str) -> int:
        """Of a raw image that is all of a file or device; 0 where what is between them has a size of its own, or it is a
        window (raw with an offset).
        """
        child = self._child(node, "file")
        whole = self._driver(node) == "raw" and child and self._driver(child) in ("file", "host_device")
        return host_size(path) if whole and not {"offset", "size"} & set(self._said(node)) else 0

    def _mark(self, top: str) -> str:
        """Of the uppermost layer: what a snapshot has put it on says nothing about it."""
        reached = [top]
        for name in reached:
            reached += [child for role, child in self._graph.below.get(name, ()) if role != "backing"]
        return image.mark_in(reached, top)

    def place(self, node: str) -> str:
        """Where a node's own data is: as C(image.place)."""
        below = self._child(node, "file")
        if below:
            return self.place(below)
        found = image.place_told(str(self._graph.nodes[node].get("file") or ""), self._driver(node))
        is_path = self._driver(node) in ("file", "host_device", "host_cdrom")
        return os.path.join(self._directory, found) if is_path and found and self._directory else found

    def _driver(self, node: str) -> str:
        return str(self._graph.nodes[node]["drv"])

    def _child(self, node: str, role: str) -> str:
        return dict(self._graph.below.get(node, ())).get(role, "")

    def _filters(self, node: str) -> t.Iterator[str]:
        """Those above an image, from the top down."""
        while self._driver(node) in image.FILTERS and self._child(node, "file"):
            yield node
            node = self._child(node, "file")

    def _chain(self, node: str) -> t.Iterator[str]:
        """What an image is built on, the next one first."""
        below = self._child(node, "backing")
        while below:
            yield below
            role = "file" if self._driver(below) in image.FILTERS else "backing"
            below = self._child(below, role)

    def _named(self, top: str) -> t.Tuple[str, ...]:
        """The nodes with names that only this one is built on, with itself: each before those below it."""
        reached, todo = [top], [top]
        while todo:
            for _role, child in self._graph.below.get(todo.pop(0), ()):
                if child not in reached and self._above[child] <= set(reached) and child not in self._graph.users:
                    reached.append(child)
                    todo.append(child)
        return tuple(name for name in reached if not name.startswith("#"))

    def _group(self, node: str) -> str:
        return str(self._said(node).get("throttle-group") or "")

    def _said(self, node: str) -> t.Dict[str, t.Any]:
        """The options of a node that QEMU writes into its name, as no plain name says them."""
        text = str(self._graph.nodes[node].get("file") or "")
        try:
            return dict(json.loads(text[len("json:") :]))
        except (ValueError, TypeError):
            return {}


def _shown(told: t.Mapping[str, t.Any]) -> t.Tuple[t.Tuple[str, Scalar], ...]:
    has = {
        "cache.direct": told["cache"]["direct"],
        "cache.no-flush": told["cache"]["no-flush"],
        "read-only": told["ro"],
        "detect-zeroes": told["detect_zeroes"],
    }
    return sorted_options({name: value for name, value in has.items() if value != image.SHOWN[name]})


def host_size(path: str) -> int:
    """Of a file or device of this host; 0 where there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return 0
    if stat.S_ISBLK(found.st_mode):
        return block_device.length(block_device.name_of_number(found.st_rdev))
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
