# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Reads what is so of an export: its definition, its processes, its socket, its clients, its image. Read-only."""

from __future__ import annotations

import os
import stat
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, nbd_uri
from ansible_collections.platter.qemu.plugins.module_utils._export import definition, places, state
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import chain, image
from ansible_collections.platter.qemu.plugins.module_utils._inspect.target import resolve_target
from ansible_collections.platter.qemu.plugins.module_utils._tools import nbd_client, processes, unix_sockets

#: seconds that a server gets to say what it has
PROBE_SECONDS = 5.0
_LARGEST_DEFINITION = 1 << 20

Table = t.Mapping[int, t.Tuple[str, ...]]


class Watch(t.NamedTuple):
    """The processes of one export: those that serve it, and those that watch over them."""

    servers: t.Tuple[int, ...]
    supervisors: t.Tuple[int, ...]

    @property
    def all(self) -> t.Tuple[int, ...]:
        """Every one of them."""
        return (*self.supervisors, *self.servers)


def find_processes(name: str, declared: t.Optional[state.Definition], table: Table) -> Watch:
    """The processes of the export C(name) among C(table)."""
    mark = (places.program_file(), places.export_directory(name))
    supervisors = tuple(pid for pid, words in table.items() if mark in zip(words, words[1:]))
    argv = declared.argv if declared else ()
    servers = [pid for pid, words in table.items() if pid not in supervisors and words == argv]
    if supervisors and not servers:
        servers = [pid for pid in table if pid not in supervisors and processes.parent_of(pid) in supervisors]
    return Watch(tuple(servers), supervisors)


def read_definition(name: str) -> t.Optional[state.Definition]:
    """What is declared on this host; None for nothing, and for what cannot be read as a definition of ours."""
    try:
        with open(places.definition_file(name), encoding="utf-8", errors="surrogateescape") as stream:
            text = stream.read(_LARGEST_DEFINITION)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise errors.EngineError("%s cannot be read: %s" % (exc.filename, exc.strerror)) from exc
    return definition.parse(text) or state.Definition((), {"unreadable": True}, text)


class Ground(t.NamedTuple):
    """What is read once for all exports of a look: the processes of this user, and the Unix sockets of the host."""

    processes: Table
    sockets: unix_sockets.Table


def ground() -> Ground:
    """As it is now."""
    return Ground(processes.own_processes(), unix_sockets.read_table())


def observe(spec: ExportSpec, now: Ground) -> t.Tuple[state.ExportState, state.ExportReading]:
    """The state and the reading of one export."""
    declared = read_definition(spec.name)
    watch = find_processes(spec.name, declared, now.processes)
    own = unix_sockets.sockets_of(watch.servers)
    path = str(declared.options.get("socket", spec.socket)) if declared else spec.socket
    reachable = unix_sockets.listener_at(path, now.sockets) in own
    reading = state.ExportReading(watch.servers, watch.supervisors, _clients(own, now.sockets))
    if spec.state == "present":
        reading = _about_image(spec, _about_socket(spec, reading, own, now.sockets))
        reading = _asked(spec, reading, path) if reachable else reading
    argv = now.processes[watch.servers[0]] if watch.servers else None
    return state.ExportState(spec.name, declared, argv, reachable, bool(watch.servers and watch.supervisors)), reading


def _clients(own: t.Collection[int], sockets: unix_sockets.Table) -> t.Tuple[state.Client, ...]:
    others = [pid for pid in unix_sockets.clients_of(own, sockets) if pid != os.getpid()]
    return tuple(state.Client(pid, processes.name_of(pid) if pid else "") for pid in others)


def _asked(spec: ExportSpec, reading: state.ExportReading, path: str) -> state.ExportReading:
    """What the server says; with all its places taken it would say nothing until one is free."""
    if len(reading.clients) >= spec.shared:
        return reading
    try:
        return replace(reading, answered=asked_size(path, spec.name))
    except errors.NbdError as exc:
        return replace(reading, silent=exc.reason == "export_unresponsive")


def asked_size(path: str, name: str) -> int:
    """Bytes of the export as the server at the socket says it. Raises NbdError."""
    with nbd_client.NbdClient(nbd_uri.Address(name, socket=path), PROBE_SECONDS) as client:
        return client.info(name).size


def _about_socket(
    spec: ExportSpec, reading: state.ExportReading, own: t.Collection[int], sockets: unix_sockets.Table
) -> state.ExportReading:
    directory, default = os.path.dirname(spec.socket), places.socket_directory()
    problem = None
    if directory != default or os.path.lexists(default):
        problem = places.directory_problem(directory)
    if os.path.lexists(spec.socket) and not stat.S_ISSOCK(os.lstat(spec.socket).st_mode):
        problem = "socket_in_use", "there is something else than a socket at %s" % spec.socket, "Set socket otherwise."
    listener = unix_sockets.listener_at(spec.socket, sockets)
    foreign = listener not in own if listener else unix_sockets.answers(spec.socket)
    return replace(reading, socket_problem=problem, foreign_listener=foreign)


def _about_image(spec: ExportSpec, reading: state.ExportReading) -> state.ExportReading:
    target = resolve_target(str(spec.image))
    seen = image.look_at(target, spec.format, follow=False)
    return replace(
        reading,
        target=target,
        kind=seen.facts.kind,
        header=seen.header,
        length=seen.facts.length,
        detected=seen.detected,
        chain_problem=chain.chain_problem(target, seen.header, image.chain_header),
    )
