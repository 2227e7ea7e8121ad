# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The block nodes of a QEMU behind a QMP session, with what is built on what. Read-only."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp

#: the drivers of nodes over a disk that have its size and its snapshots. QEMU knows the disk by the uppermost of them: a node
#: below is not resized as the guest sees it, and has no internal snapshots taken ("Need a root block node").
FILTERS = ("throttle", "copy-on-read")


class QmpGraph(t.NamedTuple):
    """C(jobs): ids. C(nodes): as C(query-named-block-nodes) tells of each, by name. C(below): a node's children, (role, name).
    C(users): the nodes that a device or an export is on; C(tops): those that nothing is on, neither these nor a job.
    """

    jobs: t.List[str]
    nodes: t.Dict[str, t.Dict[str, t.Any]]
    below: t.Dict[str, t.List[t.Tuple[str, str]]]
    users: t.Set[str]
    tops: t.List[str]

    def under_filters(self, name: str) -> str:
        """The node that a node is, or that it is a filter of."""
        while self.nodes[name]["drv"] in FILTERS:
            name = dict(self.below[name])["file"]
        return name


def look(qmp: Qmp) -> QmpGraph:
    """As it is at one moment. Raises RefusedError (job_not_dismissed), QmpError.

    C(x-debug-query-block-graph) is for debugging by its name, and the only command that tells which node is the backing
    node of which (QEMU 2.12 to 11.1): with C(-drive) every disk has its own node for a base that they share.
    """
    jobs = _refuse_ended_stream(qmp)
    nodes = {node["node-name"]: node for node in qmp.execute("query-named-block-nodes", {"flat": True})}
    graph = qmp.execute("x-debug-query-block-graph")
    names = {each["id"]: each["name"] for each in graph["nodes"]}
    kinds = {each["id"]: each["type"] for each in graph["nodes"]}
    below: t.Dict[str, t.List[t.Tuple[str, str]]] = {}
    users: t.Set[str] = set()
    for edge in graph["edges"]:
        child = names[edge["child"]]
        if kinds[edge["parent"]] == "block-driver":
            below.setdefault(names[edge["parent"]], []).append((edge["name"], child))
        elif kinds[edge["parent"]] == "block-backend":
            users.add(child)
    built_on = {names[edge["child"]] for edge in graph["edges"]}
    return QmpGraph(jobs, nodes, below, users, [name for name in nodes if name not in built_on])


def _refuse_ended_stream(qmp: Qmp) -> t.List[str]:
    """While a stream job has ended and is not dismissed, C(query-named-block-nodes) ends QEMU 7.2 by SIGSEGV."""
    jobs = qmp.execute("query-jobs")
    ended = [each["id"] for each in jobs if (each["type"], each["status"]) == ("stream", "concluded")]
    if ended:
        raise errors.RefusedError(
            "looking at the disks",
            qmp.path,
            "its job %s has ended and waits to be dismissed, and QEMU may crash when it is asked for its disks"
            % ended[0],
            reason="job_not_dismissed",
            way_out="Dismiss it (QMP: job-dismiss).",
            joined="behind",
            evidence={"jobs": ended},
        )
    return [each["id"] for each in jobs]
