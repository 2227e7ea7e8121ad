# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The QEMU that has an image open: it grows it, and tells its guest, where nobody else has it."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._image import refuse, state
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import block_use
from ansible_collections.platter.qemu.plugins.module_utils._tools import qemu_process, qmp_graph
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp


def find(spec: ImageSpec) -> t.Optional[state.Live]:
    """The QEMU behind the task's socket, if it writes to the image for a device; None if it does not, or nobody is there.

    Raises RefusedError (unsafe_qmp_socket, managed_by_libvirt, job_not_dismissed), QmpConnectError, QmpCommandError.
    """
    try:
        qmp = Qmp.connect(str(spec.qmp_socket))
    except errors.QmpConnectError as exc:
        if exc.facts.get("reason") == "qmp_unreachable":
            return None
        raise
    with qmp:
        pids = qmp.peer_pids()
        _refuse_libvirt(spec, pids)
        node = _node(spec, qmp)
    return state.Live(node, pids) if node else None


def grow(spec: ImageSpec, size: int, live: state.Live) -> t.List[t.List[str]]:
    """Have it grow to C(size) bytes. Returns what was said to it. Raises RefusedError, FailedError, QmpError."""
    with Qmp.connect(str(spec.qmp_socket)) as qmp:
        if qmp.peer_pids() != live.pids or _node(spec, qmp) != live.node:
            raise errors.FailedError("the QEMU behind %s has not got it any more" % spec.qmp_socket)
        qmp.execute("block_resize", {"node-name": live.node, "size": size})
        return list(qmp.commands)


def _node(spec: ImageSpec, qmp: Qmp) -> str:
    """The node that a device is on, and that is the image itself or a filter of it: with an overlay between, it is another."""
    graph, image = qmp_graph.look(qmp), block_use.identity_of(spec.path)
    used = {name: graph.nodes[graph.under_filters(name)] for name in sorted(graph.users) if name in graph.nodes}
    found = {name: each for name, each in used.items() if each["drv"] == spec.format and not each["ro"]}
    same = [name for name, each in found.items() if image and block_use.identity_of(str(each["file"])) == image]
    return same[0] if len(same) == 1 else ""


def _refuse_libvirt(spec: ImageSpec, pids: t.Iterable[int]) -> None:
    pid = qemu_process.libvirts(pids)
    if pid:
        fact = "the QEMU behind %s (process %d) is libvirt's" % (spec.qmp_socket, pid)
        raise refuse.refused(spec, "managed_by_libvirt", fact, "Use virsh blockresize for this VM.", {"pid": pid})
