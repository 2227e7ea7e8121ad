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
from ansible_collections.platter.qemu.plugins.module_utils._export import declared as written
from ansible_collections.platter.qemu.plugins.module_utils._export import places, state, unit
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec, TlsSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import chain, image
from ansible_collections.platter.qemu.plugins.module_utils._inspect.target import resolve_target
from ansible_collections.platter.qemu.plugins.module_utils._tools import (
    nbd_client,
    process,
    processes,
    systemd,
    tcp_sockets,
    unix_sockets,
)

#: seconds that a server gets to say what it has
PROBE_SECONDS = 5.0

Table = t.Mapping[int, t.Tuple[str, ...]]


class Watch(t.NamedTuple):
    """The processes of one export: those that serve it, and those of ours that watch over them."""

    servers: t.Tuple[int, ...]
    supervisors: t.Tuple[int, ...]

    @property
    def all(self) -> t.Tuple[int, ...]:
        """Every one of them."""
        return (*self.supervisors, *self.servers)


class Ground(t.NamedTuple):
    """What is read once for all exports of a look: the processes of this user, the services that they belong to, the
    sockets of the host, and what systemd says of the units of these exports.
    """

    processes: Table
    services: t.Mapping[int, str]
    sockets: unix_sockets.Table
    tcp: tcp_sockets.Table
    units: t.Mapping[str, systemd.Properties] = {}


def ground(run: process.RunCommand, specs: t.Sequence[ExportSpec]) -> Ground:
    """As it is now. systemd is asked once, and only where it may have to do with one of the exports."""
    table = processes.own_processes()
    now = Ground(table, services(table), unix_sockets.read_table(), tcp_sockets.read_table())
    if not systemd.runs():
        return now
    busy = set(now.services.values())
    names = [unit.unit_name(spec.name) for spec in specs if _may_have_unit(spec, busy)]
    return now._replace(units=systemd.show(run, names))


def services(table: Table) -> t.Dict[int, str]:
    """The service of each process, where there are any."""
    return {pid: systemd.unit_of(pid) for pid in table} if systemd.runs() else {}


def _may_have_unit(spec: ExportSpec, busy: t.AbstractSet[str]) -> bool:
    wanted = spec.state == "present" and supervisor_of(spec) == "systemd"
    return wanted or unit.unit_name(spec.name) in busy or os.path.lexists(unit.unit_file(spec.name))


def supervisor_of(spec: ExportSpec) -> str:
    """What is to watch over the server, on this host: C(systemd) or C(process)."""
    if spec.supervisor != "auto":
        return spec.supervisor
    return "systemd" if may_use_systemd() else "process"


def may_use_systemd() -> bool:
    """It runs, and lets us write units."""
    return systemd.runs() and os.geteuid() == 0


def find_processes(
    name: str, declared: t.Optional[state.Definition], table: Table, service_of: t.Mapping[int, str]
) -> Watch:
    """The processes of the export C(name) among C(table)."""
    mark = (places.program_file(), places.export_directory(name))
    supervisors = tuple(pid for pid, words in table.items() if mark in zip(words, words[1:]))
    argv, own = declared.argv if declared else (), unit.unit_name(name)
    servers = {pid for pid, words in table.items() if pid not in supervisors and words == argv}
    # the shells of a unit, which get its server ready, are children of systemd as well
    in_unit = [pid for pid, service in service_of.items() if service == own and processes.parent_of(pid) == 1]
    servers.update(pid for pid in in_unit if table[pid][0] != unit.SHELL)
    if supervisors and not servers:
        servers = {pid for pid in table if pid not in supervisors and processes.parent_of(pid) in supervisors}
    return Watch(tuple(sorted(servers)), supervisors)


def watch_now(name: str) -> Watch:
    """The processes of one export, just now."""
    table = processes.own_processes()
    return find_processes(name, written.read(name), table, services(table))


def observe(spec: ExportSpec, now: Ground) -> t.Tuple[state.ExportState, state.ExportReading]:
    """The state and the reading of one export."""
    declared = written.read(spec.name)
    watch = find_processes(spec.name, declared, now.processes, now.services)
    own = unix_sockets.sockets_of(watch.servers)
    reachable = bool(own) and _listens_as(declared, own, now)
    told = _unit(spec.name, now)
    reading = state.ExportReading(watch.servers, watch.supervisors, _clients(watch.servers, own, now), unit=told)
    if spec.state == "present":
        reading = _about_image(spec, _about_place(spec, reading, own, now))
        reading = _asked(spec, reading, declared) if reachable else reading
    # systemctl show would say what it was when systemd read its units
    at_boot = written.at_boot(spec.name)
    if not watch.servers:
        return state.ExportState(spec.name, declared, at_boot=at_boot), reading
    supervisor, supervised = _watched_by(spec.name, watch, told, now)
    argv = now.processes[watch.servers[0]]
    return state.ExportState(spec.name, declared, argv, reachable, supervised, supervisor, at_boot), reading


def _unit(name: str, now: Ground) -> state.Unit:
    told = now.units.get(unit.unit_name(name), {})
    none = state.Unit()
    return state.Unit(told.get("LoadState", none.load), told.get("ActiveState", none.active))


def _watched_by(name: str, watch: Watch, told: state.Unit, now: Ground) -> t.Tuple[str, bool]:
    """What the server was started by, and whether it is started again, and with systemd also at the next boot."""
    if watch.supervisors:
        return "process", True
    if now.services.get(watch.servers[0]) == unit.unit_name(name) and told.lively:
        return "systemd", written.at_boot(name)
    return "", False


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
