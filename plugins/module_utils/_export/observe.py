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
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec, TlsSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import chain, image
from ansible_collections.platter.qemu.plugins.module_utils._inspect.target import resolve_target
from ansible_collections.platter.qemu.plugins.module_utils._tools import (
    nbd_client,
    processes,
    tcp_sockets,
    unix_sockets,
)

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
    """What is read once for all exports of a look: the processes of this user, and the sockets of the host."""

    processes: Table
    sockets: unix_sockets.Table
    tcp: tcp_sockets.Table


def ground() -> Ground:
    """As it is now."""
    return Ground(processes.own_processes(), unix_sockets.read_table(), tcp_sockets.read_table())


def observe(spec: ExportSpec, now: Ground) -> t.Tuple[state.ExportState, state.ExportReading]:
    """The state and the reading of one export."""
    declared = read_definition(spec.name)
    watch = find_processes(spec.name, declared, now.processes)
    own = unix_sockets.sockets_of(watch.servers)
    reachable = bool(own) and _listens_as(declared, own, now)
    reading = state.ExportReading(watch.servers, watch.supervisors, _clients(watch.servers, own, now))
    if spec.state == "present":
        reading = _about_image(spec, _about_place(spec, reading, own, now))
        reading = _asked(spec, reading, declared) if reachable else reading
    argv = now.processes[watch.servers[0]] if watch.servers else None
    return state.ExportState(spec.name, declared, argv, reachable, bool(watch.servers and watch.supervisors)), reading


def _listens_as(declared: t.Optional[state.Definition], own: t.FrozenSet[int], now: Ground) -> bool:
    """Whether the server listens where it is declared to, and nowhere else."""
    options = declared.options if declared else {}
    unix = {number for number in own if number in now.sockets and now.sockets[number].listening}
    tcp = {now.tcp[number].local for number in own if number in now.tcp and now.tcp[number].listening}
    if "bind" in options:
        return not unix and tcp == {(options["bind"], options["port"])}
    return not tcp and unix == {unix_sockets.listener_at(str(options.get("socket", "")), now.sockets)}


def _clients(servers: t.Tuple[int, ...], own: t.FrozenSet[int], now: Ground) -> t.Tuple[state.Client, ...]:
    others = [pid for pid in unix_sockets.clients_of(servers, own, now.sockets) if pid != os.getpid()]
    near = [state.Client(pid, processes.name_of(pid) if pid else "") for pid in others]
    remote = sorted(now.tcp[n].remote for n in own if n in now.tcp and not now.tcp[n].listening)
    return (*near, *(state.Client(None, "", "%s port %d" % each) for each in remote))


def _asked(
    spec: ExportSpec, reading: state.ExportReading, declared: t.Optional[state.Definition]
) -> state.ExportReading:
    """What the server says; with all its places taken it would say nothing until one is free."""
    if len(reading.clients) >= spec.shared or declared is None:
        return reading
    try:
        return replace(reading, answered=asked_size(spec.name, declared))
    except errors.NbdError as exc:
        return replace(reading, silent=exc.reason == "export_unresponsive")


def asked_size(name: str, declared: state.Definition) -> t.Optional[int]:
    """Bytes of the export as its server says it; None where it says that to nobody without TLS. Raises NbdError."""
    options = declared.options
    if "bind" in options:
        address = nbd_uri.Address(name, host=options["bind"], port=options["port"])
    else:
        address = nbd_uri.Address(name, socket=options["socket"])
    try:
        with nbd_client.NbdClient(address, PROBE_SECONDS) as client:
            return client.info(name).size
    except errors.NbdError as exc:
        if exc.reason == "tls_required" and "tls" in options:
            return None
        raise


def _about_place(
    spec: ExportSpec, reading: state.ExportReading, own: t.FrozenSet[int], now: Ground
) -> state.ExportReading:
    if spec.bind is not None:
        foreign = bool(tcp_sockets.listeners_at(spec.bind, spec.port, now.tcp) - own)
        return replace(reading, socket_problem=key_problem(spec.tls) if spec.tls else None, foreign_listener=foreign)
    return _about_socket(str(spec.socket), reading, own, now.sockets)


def _about_socket(
    path: str, reading: state.ExportReading, own: t.FrozenSet[int], sockets: unix_sockets.Table
) -> state.ExportReading:
    directory, default = os.path.dirname(path), places.socket_directory()
    problem = None
    if directory != default or os.path.lexists(default):
        problem = places.directory_problem(directory)
    if os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
        problem = "socket_in_use", "there is something else than a socket at %s" % path, "Set socket otherwise."
    listener = unix_sockets.listener_at(path, sockets)
    foreign = listener not in own if listener else unix_sockets.answers(path)
    return replace(reading, socket_problem=problem, foreign_listener=foreign)


_X509_FILES = ("ca-cert.pem", "server-cert.pem", "server-key.pem")


def key_problem(tls: TlsSpec) -> t.Optional[t.Tuple[str, str, str]]:
    """What is wrong with the files of keys, as (reason, fact, way out). A key that others can read is no secret."""
    files = [os.path.join(tls.x509_dir, name) for name in _X509_FILES] if tls.x509_dir else [str(tls.psk_file)]
    for path in files:
        try:
            info = os.stat(path)
        except OSError as exc:
            return "secret_missing", "%s cannot be read (%s)" % (path, exc.strerror), "Put it there."
        secret, mode = not path.endswith("-cert.pem"), stat.S_IMODE(info.st_mode)
        if info.st_uid not in (0, os.geteuid()) or mode & (0o037 if secret else 0o022):
            fact = "%s belongs to user %d and has the mode %04o" % (path, info.st_uid, mode)
            return "key_permissions", fact, "Give it to the user who runs the task, with the mode 0600."
    return None


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
