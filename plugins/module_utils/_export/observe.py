# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Reads what is so of an export: its definition, its processes, its socket, its clients, its image. Read-only."""

from __future__ import annotations

import os
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, nbd_uri
from ansible_collections.platter.qemu.plugins.module_utils._export import (
    about,
    daemons,
    places,
    refuse,
    server_storage_daemon,
    state,
    unit,
    watched,
)
from ansible_collections.platter.qemu.plugins.module_utils._export import declared as written
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec
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


class Ground(t.NamedTuple):
    """What is read once for all exports of a look: the processes of this user, the services that they belong to, the
    sockets of the host, and what systemd says of the units of these exports; the storage daemons that they have to do with,
    and their C(names).
    """

    processes: watched.Table
    services: t.Mapping[int, str]
    sockets: unix_sockets.Table
    tcp: tcp_sockets.Table
    units: t.Mapping[str, systemd.Properties] = {}
    daemons: t.Mapping[str, daemons.Daemon] = {}
    names: t.FrozenSet[str] = frozenset()


def ground(run: process.RunCommand, specs: t.Sequence[ExportSpec]) -> Ground:
    """As it is now. systemd is asked once, and only where it may have to do with one of the exports."""
    now = _processes_and_sockets()
    now = now._replace(daemons=_daemons(specs, now), names=frozenset(spec.name for spec in specs))
    if not systemd.runs():
        return now
    busy = set(now.services.values())
    names = [unit.unit_name(spec.name) for spec in specs if _may_have_unit(spec, busy)]
    return now._replace(units=systemd.show(run, [*names, *(unit.unit_name(places.host_name(d)) for d in now.daemons)]))


def _processes_and_sockets() -> Ground:
    table = processes.own_processes()
    return Ground(table, watched.services(table), unix_sockets.read_table(), tcp_sockets.read_table())


def _daemons(specs: t.Sequence[ExportSpec], now: Ground) -> t.Dict[str, daemons.Daemon]:
    """Those that these exports are in, and those that they are to be in."""
    places_now = [written.place_in_daemon(spec.name) for spec in specs] if places.any_hosts() else []
    names = {place.daemon for place in places_now if place} | {spec.daemon for spec in specs if spec.daemon}
    return {name: daemons.ask(_daemon(name, now)) for name in sorted(names)}


def _daemon(name: str, now: Ground) -> daemons.Daemon:
    definition = daemons.definition_of(name)
    watch = watched.find(places.host_name(name), definition, now.processes, now.services)
    argv = now.processes[watch.servers[0]] if watch.servers else ()
    return daemons.Daemon(name, definition, watch.servers, watch.supervisors, argv)


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


def observe(spec: ExportSpec, now: Ground) -> t.Tuple[state.ExportState, state.ExportReading]:
    """The state and the reading of one export."""
    declared = written.read(spec.name)
    daemon = _is_in(spec, declared, now)
    if daemon:
        return _observe_in_daemon(spec, declared, now.daemons[daemon], now)
    watch = watched.find(spec.name, declared, now.processes, now.services)
    own = unix_sockets.sockets_of(watch.servers)
    reachable = bool(own) and _listens_as(declared, own, now)
    told = _unit(spec.name, now)
    reading = state.ExportReading(watch.servers, watch.supervisors, _clients(watch.servers, own, now), unit=told)
    reading = _about_rest(spec, reading, own, now)
    if spec.state == "present" and reachable:
        reading = _asked(spec, reading, declared)
    # systemctl show would say what it was when systemd read its units
    at_boot = written.at_boot(spec.name)
    if not watch.servers:
        return state.ExportState(spec.name, declared, at_boot=at_boot), reading
    supervisor, supervised = _watched_by(spec.name, watch, told, now)
    argv = now.processes[watch.servers[0]]
    return state.ExportState(spec.name, declared, argv, reachable, supervised, supervisor, at_boot), reading


def _about_rest(
    spec: ExportSpec, reading: state.ExportReading, own: t.FrozenSet[int], now: Ground
) -> state.ExportReading:
    """What is known of the image, the place and the daemon that the task names."""
    if spec.state != "present":
        return reading
    daemon = now.daemons.get(spec.daemon or "")
    if daemon:
        others = sorted(set(written.exports_of(daemon.name)) - now.names)
        argv = daemon.argv or (daemon.definition.argv if daemon.definition else ())
        its_own = unix_sockets.sockets_of(daemon.pids)
        clients = _clients(daemon.pids, its_own - _monitors(daemon.name, now), now)
        reading = replace(reading, host=state.Host(argv, _supervisor_of_daemon(daemon), tuple(others), clients))
        own |= its_own
    reading = about.about_place(spec, reading, own, now.sockets, now.tcp)
    if reading.foreign_listener:
        pids = _listening_at(spec, own, now)
        closing = not any(map(processes.lives, pids))
        reading = replace(reading, foreign_export=_export_of(pids, now), closing=closing)
    return about.about_image(spec, reading)


def _listening_at(spec: ExportSpec, own: t.FrozenSet[int], now: Ground) -> t.List[int]:
    """The other processes that listen at the place of the export, as far as they are seen."""
    if spec.bind is not None:
        numbers = tcp_sockets.listeners_at(spec.bind, spec.port, now.tcp) - own
    else:
        numbers = frozenset((unix_sockets.listener_at(str(spec.socket), now.sockets) or 0,))
    return sorted(set(unix_sockets.holders(numbers).values()))


def _export_of(pids: t.Sequence[int], now: Ground) -> str:
    """Which other export of ours these processes serve; empty where they are programs of others."""
    return next(filter(None, (watched.whose(pid, now.processes, now.services) for pid in pids)), "")


def _supervisor_of_daemon(daemon: daemons.Daemon) -> str:
    return str(daemon.definition.options.get("supervisor", "")) if daemon.definition else ""


def _is_in(spec: ExportSpec, declared: t.Optional[state.Definition], now: Ground) -> str:
    """The storage daemon that it is in; empty for none."""
    if declared:
        return declared.daemon
    daemon = now.daemons.get(spec.daemon or "")
    return daemon.name if daemon and (spec.name in daemon.exports or _left(spec.name, daemon)) else ""


def _idles(daemon: daemons.Daemon) -> bool:
    """Whether it runs for nothing, as a run was killed before it ended it."""
    return bool(daemon.pids) and not any(written.exports_of(daemon.name).values())


def _left(name: str, daemon: daemons.Daemon) -> bool:
    prefix = server_storage_daemon.node_prefix(name)
    return any(node.startswith(prefix) for node in daemon.left)


def _observe_in_daemon(
    spec: ExportSpec, declared: t.Optional[state.Definition], daemon: daemons.Daemon, now: Ground
) -> t.Tuple[state.ExportState, state.ExportReading]:
    """As C(observe), of an export that a storage daemon has."""
    if daemon.silent:
        raise refuse.silent_daemon(spec, daemon.name, daemon.pids)
    host, place = places.host_name(daemon.name), written.place_in_daemon(spec.name)
    own, enabled = unix_sockets.sockets_of(daemon.pids), bool(place and place.enabled)
    reachable = bool(own) and _listens_as(daemon.definition, own - _monitors(daemon.name, now), now)
    told = state.Unit(_unit(host, now).load)
    clients = _clients(daemon.pids, own, now)
    reading = state.ExportReading(
        daemon.pids, (), clients, unit=told, daemon=daemon.name, left=_left(spec.name, daemon) or _idles(daemon)
    )
    reading = _about_rest(spec, reading, own, now)
    watch = watched.Watch(daemon.pids, daemon.supervisors)
    supervisor, supervised = _watched_by(host, watch, _unit(host, now), now) if daemon.pids else ("", False)
    kind = _supervisor_of_daemon(daemon)
    at_boot = enabled and (kind != "systemd" or written.at_boot(host))
    if spec.name not in daemon.exports:
        pids = daemon.pids if reading.left else ()
        return state.ExportState(spec.name, declared, at_boot=at_boot), replace(reading, pids=pids, clients=())
    if spec.state == "present" and reachable:
        reading = _asked(spec, reading, declared)
    argv = (*daemon.argv, daemon.exports[spec.name])
    found = state.ExportState(spec.name, declared, argv, reachable, supervised and enabled, supervisor, at_boot)
    return found, reading


def _monitors(daemon: str, now: Ground) -> t.FrozenSet[int]:
    """The socket at which it takes commands."""
    number = unix_sockets.listener_at(places.monitor(daemon), now.sockets)
    return frozenset() if number is None else frozenset((number,))


def _unit(name: str, now: Ground) -> state.Unit:
    told = now.units.get(unit.unit_name(name), {})
    none = state.Unit()
    return state.Unit(told.get("LoadState", none.load), told.get("ActiveState", none.active))


def _watched_by(name: str, watch: watched.Watch, told: state.Unit, now: Ground) -> t.Tuple[str, bool]:
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
    return (*near, *_clients_by_tcp(own, now))


def _clients_by_tcp(own: t.FrozenSet[int], now: Ground) -> t.Iterator[state.Client]:
    """By their addresses; those of this host have the other end of the connection in the same table."""
    connected = {number: each for number, each in now.tcp.items() if not each.listening}
    ends = {(each.local, each.remote): number for number, each in connected.items()}
    taken = sorted((each.remote, each.local) for number, each in connected.items() if number in own)
    pids = unix_sockets.holders([ends[each] for each in taken if each in ends])
    for each in taken:
        pid = pids.get(ends.get(each, 0))
        yield state.Client(pid, processes.name_of(pid) if pid else "", "%s port %d" % each[0])


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


def has_no_place(spec: ExportSpec, declared: state.Definition) -> bool:
    """Whether its server has as many clients as it serves, just now: it says nothing to one more until one of them ends."""
    now = _processes_and_sockets()
    servers = watched.find(spec.name, declared, now.processes, now.services).servers
    own = unix_sockets.sockets_of(servers)
    return _listens_as(declared, own, now) and len(_clients(servers, own, now)) >= spec.shared


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
