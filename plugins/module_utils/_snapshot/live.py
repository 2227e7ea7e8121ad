# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Finds the running QEMU that has an image open, behind the socket that the task names. Read-only."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._inspect import block_use
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import block_graph, refuse, state, target
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import qemu_process
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp

#: file -> the file that it is built on; None for none of this host
Bases = t.Mapping[str, t.Optional[str]]


class _Vm(t.NamedTuple):
    """One look at a QEMU: its nodes, the processes behind its socket, and which files these have open."""

    graph: block_graph.BlockGraph
    pids: t.FrozenSet[int]
    files: t.Set[t.Optional[block_use.Identity]]


class RunningVms:
    """The QEMUs behind a task's sockets as they are at one moment: each is looked at once, for all of the task's disks.

    C(commands) gets what was said to them.
    """

    def __init__(self, commands: t.List[t.List[str]]) -> None:
        self._commands = commands
        self._seen: t.Dict[str, t.Optional[_Vm]] = {}

    def find(
        self, spec: SnapshotSpec, paths: t.Sequence[str], bases: t.Optional[Bases] = None
    ) -> t.Optional[state.Live]:
        """The QEMU behind the task's socket, if it has one of the files C(paths) open; None when nobody is behind it.

        C(bases): external only, which file each image is built on: the QEMU's chain must be the same.
        Raises RefusedError (unsafe_qmp_socket, managed_by_libvirt, ...), QmpConnectError.
        """
        socket = str(spec.qmp_socket)
        if socket not in self._seen:
            self._seen[socket] = self._look(socket)
        vm = self._seen[socket]
        if vm is None:
            return None
        found = _on_a_disk(spec, paths, _files_of(bases or {}), vm)
        if found is not None and bases is not None:
            _refuse_other_chain(spec, found, bases, vm.files)
        return found

    def _look(self, socket: str) -> t.Optional[_Vm]:
        if not os.path.exists(socket):
            return None
        try:
            qmp = Qmp.connect(socket)
        except errors.QmpConnectError as exc:
            if exc.facts.get("reason") == "qmp_unreachable":
                return (
                    None  # a socket left by a QEMU that has ended; who else has the image open is found out elsewhere
                )
            raise
        with qmp:
            pids = qmp.peer_pids()
            vm = _Vm(block_graph.BlockGraph(qmp), pids, open_files(pids))
            self._commands += qmp.commands
        return vm


def look_again(qmp: Qmp, spec: SnapshotSpec, reading: state.SnapshotReading) -> state.Live:
    """The same disk in the same QEMU as it is now, between two steps: nodes come and go, and others change them too.

    Raises RefusedError as C(RunningVms.find) does, FailedError when the disk is not there any more.
    """
    before = t.cast(state.Live, reading.live)
    vm = _Vm(block_graph.BlockGraph(qmp), before.pids, open_files(before.pids))
    known = {*before.nodes, *_files_of({path: layer.base for path, layer in reading.layers.items()})}
    found = _on_a_disk(spec, list(reading.layers), known, vm)
    if found is None:
        raise errors.FailedError("failed: the image is not open in a running QEMU any more.")
    return found


def _on_a_disk(spec: SnapshotSpec, paths: t.Sequence[str], known: t.Collection[str], vm: _Vm) -> t.Optional[state.Live]:
    graph = vm.graph
    ours = _by_identity(paths)
    disks = graph.disks_on(list(ours))
    if not disks:
        return None
    _refuse_libvirt(spec, vm.pids)
    active = _only_known(spec, graph, disks, ours)
    _refuse_moved_names(spec, vm, disks[0])
    nodes = {active: disks[0]} if not known else _chain(spec, graph, disks[0], {**_by_identity(known), **ours})
    return state.Live(
        socket=str(spec.qmp_socket),
        pids=vm.pids,
        active=active,
        node=disks[0],
        top=graph.over_filters(disks[0]),
        nodes=nodes,
        bitmaps=_bitmaps(graph.node(disks[0])),
        used=graph.is_used(disks[0]),
        disks=tuple(sorted(graph.writable_files().items())),
        jobs=tuple(
            (verb, path)
            for path in nodes
            for verb in ("commit", "stream")
            if block_graph.job_id(verb, path) in graph.jobs
        ),
    )


def _files_of(bases: Bases) -> t.Set[str]:
    return {*bases, *(base for base in bases.values() if base is not None)}


def _refuse_other_chain(
    spec: SnapshotSpec, live: state.Live, bases: Bases, opened: t.Collection[t.Optional[block_use.Identity]]
) -> None:
    """A VM may have been given other backing files than the headers name; merges would mix the two up.

    C(opened): the files that it has open: a raw base needs no format node, and is no part of the chain then.
    """
    chain = list(live.nodes)
    for below, path in zip([None, *chain], chain):
        named = bases.get(path)
        if named != below and not (below is None and block_use.identity_of(str(named)) in opened):
            raise refuse.chain_differs(spec, below or str(named))


def _by_identity(paths: t.Collection[str]) -> t.Dict[block_use.Identity, str]:
    """What is which of these files; of several names of one file the first."""
    found = ((block_use.identity_of(path), path) for path in reversed(list(paths)))
    return {which: path for which, path in found if which is not None}


def _chain(
    spec: SnapshotSpec, graph: block_graph.BlockGraph, disk: str, known: t.Mapping[block_use.Identity, str]
) -> t.Dict[str, str]:
    """The nodes of a disk's chain by their files as we know them, whatever QEMU calls those; lowest first."""
    nodes = {}
    for name in reversed(graph.chain(disk)):
        file = target.there(str(graph.file_of(name)))
        which = block_use.identity_of(file)
        if which is None or which not in known:
            raise refuse.chain_differs(spec, file)
        nodes[known[which]] = name
    return nodes


def _refuse_moved_names(spec: SnapshotSpec, vm: _Vm, disk: str) -> None:
    """QEMU opens a file again by its name when a layer becomes read-only or is merged into.

    If the name leads elsewhere by then, it goes on with the wrong file, and says nothing (seen on QEMU 7.2).
    """
    files = [target.there(str(vm.graph.file_of(node))) for node in vm.graph.chain(disk)]
    links = [path for path in files if os.path.islink(path)]
    if links and spec.external and (spec.switch == "symlink" or (spec.switch is None and os.path.islink(spec.image))):
        raise refuse.refused(
            spec,
            "opened_by_link",
            "QEMU knows the file as %s, and would open what is called so later in its place" % links[0],
            "Start the VM with the file that the link leads to (readlink -f), or set switch to none.",
            {"links": links},
        )
    moved = [path for path in files if vm.files and block_use.identity_of(path) not in vm.files]
    moved += [
        path for path in links if [block_use.identity_of(each) for each in files].count(block_use.identity_of(path)) > 1
    ]
    if moved:
        raise refuse.refused(
            spec,
            "name_moved",
            "what is called %s now is not the file that QEMU has opened under that name" % moved[0],
            "Stop the VM, and start it with the right files.",
            {"paths": moved},
        )


def open_files(pids: t.Iterable[int]) -> t.Set[t.Optional[block_use.Identity]]:
    """What these processes have open; empty where that cannot be read."""
    found: t.Set[t.Optional[block_use.Identity]] = set()
    for pid in pids:
        directory = "/proc/%d/fd" % pid
        try:
            found.update(block_use.identity_of(os.path.join(directory, name)) for name in os.listdir(directory))
        except OSError:
            continue
    return found - {None}


def _only_known(
    spec: SnapshotSpec,
    graph: block_graph.BlockGraph,
    disks: t.Sequence[str],
    paths: t.Mapping[block_use.Identity, str],
) -> str:
    """The file of the one disk that there must be; one that was not seen may have any relation to the image."""
    files = [target.there(str(graph.file_of(disk))) for disk in disks]
    which = block_use.identity_of(files[0])
    active = paths.get(which) if which is not None else None
    if len(files) == 1 and active is not None:
        return active
    fact, way_out = "several disks of the VM are built on it", "Name the layer that is the disk in image."
    if len(files) == 1:
        fact, way_out = "the disk of the VM is another file", "Name its directory in overlay_directories."
    raise refuse.refused(spec, "active_unknown", "%s: %s" % (fact, ", ".join(files)), way_out, {"layers": files})


def _bitmaps(node: t.Mapping[str, t.Any]) -> t.Tuple[state.BitmapState, ...]:
    """The persistent ones; QEMU writes them into the image only when it closes it."""
    found = [
        state.BitmapState(
            each["name"], bool(each["recording"]), int(each["granularity"]), bool(each.get("inconsistent"))
        )
        for each in node.get("dirty-bitmaps") or ()
        if each.get("persistent")
    ]
    return tuple(sorted(found, key=lambda each: each.name))


def _refuse_libvirt(spec: SnapshotSpec, pids: t.Iterable[int]) -> None:
    """libvirt keeps the chain of each VM in its own XML, and would start it from the wrong file next time."""
    pid = qemu_process.libvirts(pids)
    if pid:
        fact = "the QEMU behind the socket (process %d) is libvirt's, which keeps its own account of the disks" % pid
        way_out = "Use virsh snapshot-create-as and blockcommit for this VM; or work on it while it is shut off."
        raise refuse.refused(spec, "managed_by_libvirt", fact, way_out, {"pid": pid})
