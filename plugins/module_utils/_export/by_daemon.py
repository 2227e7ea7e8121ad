# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Exports in storage daemons: they come and go over QMP, and what is declared of them is what the daemon gets after a start.

A step that was begun by a run that was killed does no harm: an export that is served has a node whose name tells what it is
(C(server_storage_daemon.steps)), nodes without an export are removed by the next run, and of a declaration either the old
file or the new one is there.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._export import (
    actions,
    by_process,
    by_systemd,
    daemons,
    declared,
    places,
    refuse,
    server_storage_daemon,
    watched,
)
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec
from ansible_collections.platter.qemu.plugins.module_utils._export.state import Definition
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_places, processes, qmp, unix_sockets

#: seconds until a daemon that was started takes commands
START_SECONDS = 30.0
_POLL_SECONDS = 0.01

Supervisors = t.Mapping[str, t.Union[by_process.ByProcess, by_systemd.BySystemd]]


class ByDaemon:
    """What the executor asks for exports of storage daemons, one after the other. C(supervisors): of the daemons."""

    def __init__(self, supervisors: Supervisors) -> None:
        self._supervisors = supervisors
        #: the daemons whose units have come, gone or been changed
        self.changed: t.Set[str] = set()

    def declare(self, spec: ExportSpec, wanted: Definition) -> None:
        """Write down the export, and the daemon if that is new or another one."""
        host, kind = wanted.host, wanted.options["supervisor"]
        found = declared.place_in_daemon(spec.name)
        here = found is not None and (found.daemon, found.supervisor) == (wanted.daemon, kind)
        if not here:
            self.remove(spec)
        if host and daemons.definition_of(wanted.daemon) != host:
            self._supervisors[kind].declare(_host_spec(spec, wanted.daemon), host)
            self.changed.update([wanted.daemon] if kind == "systemd" else [])
        if not os.path.isdir(places.declarations(wanted.daemon, kind)):
            places.make_directories(places.host_name(wanted.daemon), kind)
            os.mkdir(places.declarations(wanted.daemon, kind), 0o700)
        place = declared.Place(wanted.daemon, kind, bool(found and here and found.enabled))
        own_places.write(place.path(spec.name), wanted.text, 0o600)

    def start(self, spec: ExportSpec, made: Definition) -> None:
        """Have it served, and by the daemon's next starts too."""
        _enable(spec.name, True)
        try:
            self._ensure(spec, made)
            with daemons.session(made.daemon, START_SECONDS) as monitor:
                _make(monitor, spec.name, made)
        except errors.EngineError as exc:
            _enable(spec.name, False)
            raise errors.FailedError(exc.message, reason="server_failed") from exc

    def _ensure(self, spec: ExportSpec, made: Definition) -> None:
        """The daemon runs, and something watches over it."""
        host, kind = _host_spec(spec, made.daemon), made.options["supervisor"]
        supervisor, watch = self._supervisors[kind], watched.now(host.name)
        if isinstance(supervisor, by_systemd.BySystemd):
            supervisor.enable(host.name)
        if watch.servers:
            if made.host and processes.command_line(watch.servers[0]) != made.host.argv:
                raise errors.EngineError("storage daemon %s runs with other options" % made.daemon)
            if kind == "process" and not watch.supervisors:
                supervisor.supervise(host, watch.servers[0])
            return
        if isinstance(supervisor, by_systemd.BySystemd):
            supervisor.reload([host.name])
        # one that waits to start it again
        processes.end_all(lambda: watched.now(host.name).supervisors, spec.stop_timeout)
        supervisor.start(host)
        deadline = time.monotonic() + START_SECONDS
        while not daemons.takes_commands(made.daemon):
            if supervisor.has_given_up(host.name) or time.monotonic() >= deadline:
                supervisor.give_up(host.name)
                said = "; ".join(supervisor.said(host.name)) or "it has said nothing"
                raise errors.EngineError("storage daemon %s did not start: %s" % (made.daemon, said))
            time.sleep(_POLL_SECONDS)

    def supervise(self, spec: ExportSpec, daemon: str, kind: str) -> None:
        """The daemon is watched over, and has the export after its next start too."""
        _enable(spec.name, True)
        supervisor, watch = self._supervisors[kind], watched.now(places.host_name(daemon))
        if isinstance(supervisor, by_systemd.BySystemd):
            supervisor.enable(places.host_name(daemon))
        elif watch.servers and not watch.supervisors:
            supervisor.supervise(_host_spec(spec, daemon), watch.servers[0])

    @staticmethod
    def stop(spec: ExportSpec, action: actions.StopServer) -> None:
        """Not served any more, and not after the daemon's next start."""
        if watched.now(places.host_name(action.daemon)).servers:
            with daemons.session(action.daemon, START_SECONDS) as monitor:
                if spec.name in daemons.exports_now(monitor):
                    _take_out(monitor, spec, action)
                _clear(monitor, spec.name)
        _enable(spec.name, False)

    def remove(self, spec: ExportSpec) -> None:
        """Nothing of it is declared any more. With the last one the daemon goes, and before it: or else nobody would know
        of the daemon any more.
        """
        place = declared.place_in_daemon(spec.name)
        while place:
            host, last = places.host_name(place.daemon), list(declared.exports_of(place.daemon)) == [spec.name]
            if last:
                self._end(host, spec.stop_timeout)
                _remove([places.monitor(place.daemon), places.definition_file(host)])
                self.changed.update([place.daemon] if declared.in_unit(host) else [])
            os.unlink(place.path(spec.name))
            for supervisor in self._supervisors.values() if last else ():
                supervisor.remove(host)
            place = declared.place_in_daemon(spec.name)

    def settle(self, daemon: str, wanted: t.Optional[Definition], seconds: float) -> None:
        """End a daemon that has nothing to serve, or is to be started with other options (C(wanted))."""
        host, exports = places.host_name(daemon), declared.exports_of(daemon)
        watch = watched.now(host)
        if watch.all and (_is_another(watch, wanted) if wanted else not any(exports.values())):
            self._end(host, seconds)
        for kind, supervisor in self._supervisors.items():
            if wanted and wanted.options["supervisor"] != kind:
                self.changed.update([daemon] if declared.in_unit(host) and kind == "systemd" else [])
                supervisor.remove(host)

    def _end(self, host: str, seconds: float) -> None:
        """It leaves its socket behind; so has one that a killed run has ended."""
        systemd = t.cast(by_systemd.BySystemd, self._supervisors["systemd"])
        in_unit, sockets = bool(declared.in_unit(host)), _sockets(host)
        if in_unit:
            systemd.begin_stop(host)
        if not processes.end_all(lambda: watched.now(host).all, seconds):
            fact = "storage daemon %s has not ended within %g s" % (host[1:], seconds)
            raise errors.FailedError(fact, reason="stop_timeout")
        if in_unit:
            systemd.end_stop(host, START_SECONDS)
        for socket in sockets:
            unix_sockets.remove_left(socket)


def _sockets(host: str) -> t.List[str]:
    """At which a storage daemon listens, or did, by what runs and by what is declared."""
    running = [processes.command_line(pid) for pid in watched.now(host).servers]
    said = [made.argv for made in (declared.in_unit(host), declared.in_file(host)) if made]
    return [path for path in map(server_storage_daemon.socket_of, (*running, *said)) if path]


def _remove(paths: t.Sequence[str]) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _host_spec(spec: ExportSpec, daemon: str) -> ExportSpec:
    return replace(spec, name=places.host_name(daemon))


def _is_another(watch: watched.Watch, wanted: Definition) -> bool:
    """Whether what runs is not as it is to be."""
    if not watch.servers:
        return True
    kind = "process" if watch.supervisors else "systemd"
    orphaned = not watch.supervisors and wanted.options["supervisor"] == "process"
    other_kind = kind != wanted.options["supervisor"] and not orphaned
    return processes.command_line(watch.servers[0]) != wanted.argv or other_kind


def _enable(name: str, wanted: bool) -> None:
    """Whether the daemon has it after a start: the ending of its file says so."""
    place = declared.place_in_daemon(name)
    if place and place.enabled != wanted:
        os.rename(place.path(name), place._replace(enabled=wanted).path(name))


def _make(monitor: qmp.Qmp, name: str, made: Definition) -> None:
    """Unless the daemon has it already, as it has just been started."""
    if daemons.exports_now(monitor).get(name) == made.argv[-1]:
        return
    _clear(monitor, name)
    try:
        for command, arguments in json.loads(made.text)["steps"]:
            monitor.execute(command, arguments)
    except errors.QmpCommandError:
        _clear(monitor, name)
        raise


def _take_out(monitor: qmp.Qmp, spec: ExportSpec, action: actions.StopServer) -> None:
    """The daemon knows whether a client uses it."""
    export = server_storage_daemon.export_id(spec.name)
    mode = "hard" if spec.allow_disconnect else "safe"
    try:
        monitor.execute("block-export-del", {"id": export, "mode": mode})
    except errors.QmpCommandError as exc:
        raise refuse.used_in_daemon(spec, action.daemon, action.clients, action.changes) from exc
    deadline = time.monotonic() + spec.stop_timeout
    while spec.name in daemons.exports_now(monitor):
        left = deadline - time.monotonic()
        if left <= 0:
            fact = "storage daemon %s still serves it after %g s" % (action.daemon, spec.stop_timeout)
            raise errors.FailedError(fact, reason="stop_timeout")
        monitor.wait_event(["BLOCK_EXPORT_DELETED"], time.monotonic() + min(left, 1.0))


def _clear(monitor: qmp.Qmp, name: str) -> None:
    """Remove the nodes of an export that is not there, which writes out what they hold, and its limits."""
    prefix, serving = server_storage_daemon.node_prefix(name), set(daemons.exports_now(monitor).values())
    for node in sorted(daemons.nodes_now(monitor) - serving):
        if node.startswith(prefix):
            monitor.execute("blockdev-del", {"node-name": node})
    for limits in _objects(monitor):
        if limits.startswith(prefix) and limits.rpartition(".")[0] not in serving:
            monitor.execute("object-del", {"id": limits})


def _objects(monitor: qmp.Qmp) -> t.List[str]:
    """The names of its objects: until it has had one, there is no place for them."""
    try:
        return [each["name"] for each in monitor.execute("qom-list", {"path": "/objects"})]
    except errors.QmpCommandError:
        return []
