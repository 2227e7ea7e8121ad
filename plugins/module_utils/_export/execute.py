# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Carries out plans, several exports at a time, and looks again at what came of it."""

from __future__ import annotations

import os
import time
import typing as t
from functools import partial

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, attempt, failed_at
from ansible_collections.platter.qemu.plugins.module_utils._export import (
    actions,
    by_daemon,
    by_process,
    by_systemd,
    declared,
    observe,
    places,
    programs,
    servers,
    unit,
    watched,
)
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec
from ansible_collections.platter.qemu.plugins.module_utils._export.state import Definition
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_places, process, processes, unix_sockets
from ansible_collections.platter.qemu.plugins.module_utils._tools.side_by_side import side_by_side

_MOST_WORKERS = 8
#: seconds from the start of a server until it must answer
START_SECONDS = 30.0
_POLL_SECONDS = 0.01
#: all servers end before the first one is started, as they may trade sockets; systemd reads its units in between
_PASSES = (
    (actions.StopServer,),
    (actions.DeclareExport, actions.RemoveDefinition),
    (actions.StartServer, actions.SuperviseServer),
)

Supervisor = t.Union[by_process.ByProcess, by_systemd.BySystemd]


class Executor:
    """Runs the actions of items. C(workers) 0: as many as help."""

    def __init__(self, run: process.Runner, *, workers: int) -> None:
        self._run = run
        self._workers = workers or min(_MOST_WORKERS, 2 * (os.cpu_count() or 1))
        self._systemd = by_systemd.BySystemd(run)
        self._supervisors: t.Dict[str, Supervisor] = {"process": by_process.ByProcess(run), "systemd": self._systemd}
        self._daemons = by_daemon.ByDaemon(self._supervisors)
        self._methods: t.Dict[t.Any, t.Callable[[ExportSpec, t.Any], None]] = {
            actions.StopServer: self._stop,
            actions.DeclareExport: self._declare,
            actions.StartServer: self._start,
            actions.SuperviseServer: self._supervise,
            actions.RemoveDefinition: self._remove,
        }

    def run(self, items: t.Sequence[Item]) -> None:
        """Carry out the plans of items."""
        for kind in ("process", "systemd"):
            programs.write(kind, [item.after for item in items if _supervisor_in(item, kind)])
        for item in items:
            self._attempt(item, partial(_find_room, item.plan))
        for kinds in _PASSES:
            self._each([item for item in items if not item.error], kinds)
            if actions.DeclareExport in kinds:
                self._settle(items)
                self._reload([item for item in items if not item.error and self._changes_units(item)])
        whole = [item for item in items if not item.error]
        if whole:
            now = observe.ground(self._run, [item.spec for item in whole])
            for item in whole:
                self._attempt(item, partial(look_again, item, now))

    def _each(self, items: t.Sequence[Item], kinds: t.Tuple[type, ...]) -> None:
        """Exports of storage daemons one after the other: a daemon listens to one of us at a time."""
        groups = [[item] for item in items if not _daemons_of(item)]
        groups.append([item for item in items if _daemons_of(item)])
        side_by_side(
            lambda group: [self._attempt(item, partial(self._carry_out, item, kinds)) for item in group],
            groups,
            self._workers,
        )

    def _settle(self, items: t.Sequence[Item]) -> None:
        """Daemons that have lost exports, or are to be others."""
        for daemon in sorted({daemon for item in items for daemon in _daemons_of(item)}):
            concerned = [item for item in items if daemon in _daemons_of(item)]
            starting = [
                item
                for item in concerned
                if not item.error and _to_start(item) and item.after.definition.daemon == daemon
            ]
            wanted = starting[0].after.definition.host if starting else None
            for item in concerned[:1]:
                self._attempt(item, partial(self._daemons.settle, daemon, wanted, item.spec.stop_timeout))

    def _carry_out(self, item: Item, kinds: t.Tuple[type, ...]) -> None:
        while item.done < len(item.plan) and isinstance(item.plan[item.done], kinds):
            action = item.plan[item.done]
            self._methods[type(action)](item.spec, action)
            item.done += 1

    @staticmethod
    def _attempt(item: Item, function: t.Callable[[], None]) -> None:
        attempt(item, function, _failed)

    def _changes_units(self, item: Item) -> bool:
        """Whether systemd has to read its units again. That of a storage daemon stays as its exports come and go."""
        alone = {_kind(state) for state in (item.before, item.after) if not _is_in_daemon(state)}
        return "systemd" in alone or _stops_unit(item) or bool(_daemons_of(item) & self._daemons.changed)

    def _reload(self, items: t.Sequence[Item]) -> None:
        """Once for all of them; if it fails, for each."""
        for item in items:
            if item.after.at_boot and not _is_in_daemon(item.after):
                self._attempt(item, partial(self._systemd.enable, item.name))
        whole = [item for item in items if not item.error]
        ended = [item.name for item in whole if item.reading.unit.active == "failed" or _stops_unit(item)]
        try:
            if whole:
                self._systemd.reload(ended)
        except errors.EngineError as exc:
            for item in whole:
                item.error = _failed(item, errors.FailedError(exc.message, reason="server_failed"))

    def _start(self, spec: ExportSpec, action: actions.StartServer) -> None:
        if action.definition.daemon:
            self._daemons.start(spec, action.definition)
            return
        supervisor = self._supervisors[action.definition.options["supervisor"]]
        supervisor.start(spec)
        deadline = time.monotonic() + START_SECONDS
        while True:
            problem = _problem(spec, action)
            if problem is None:
                return
            if problem or time.monotonic() >= deadline:
                self._end_unfit(supervisor, spec, problem or "it did not answer within %g s" % START_SECONDS)
            if supervisor.has_given_up(spec.name) and _problem(spec, action) is not None:
                said = self._gave_up(supervisor, spec.name)
                raise _not_started(supervisor, spec, "the server did not start: %s" % said)
            time.sleep(_POLL_SECONDS)

    def _end_unfit(self, supervisor: Supervisor, spec: ExportSpec, problem: str) -> None:
        """A server that runs, and does not serve."""
        said = self._gave_up(supervisor, spec.name)
        processes.end_all(lambda: watched.now(spec.name).all, spec.stop_timeout)
        _remove_socket(declared.read(spec.name))
        raise _not_started(supervisor, spec, "the server does not serve it: %s; %s" % (problem, said))

    @staticmethod
    def _gave_up(supervisor: Supervisor, name: str) -> str:
        supervisor.give_up(name)
        return "; ".join(supervisor.said(name)) or "it has said nothing"

    def _supervise(self, spec: ExportSpec, action: actions.SuperviseServer) -> None:
        if action.daemon:
            self._daemons.supervise(spec, action.daemon, action.supervisor)
            return
        running = watched.now(spec.name).servers
        if running:
            self._supervisors[action.supervisor].supervise(spec, running[0])

    def _stop(self, spec: ExportSpec, action: actions.StopServer) -> None:
        """Whatever has started it; it is asked again and again, as a server that is just starting can lose a request."""
        if action.daemon:
            self._daemons.stop(spec, action)
            return
        made = declared.read(spec.name)
        harmless = bool(made and servers.loses_nothing(made))
        seconds = servers.patience(made.options if made else {}, spec.stop_timeout)
        if action.in_unit:
            self._systemd.begin_stop(spec.name)
        if not processes.end_all(lambda: watched.now(spec.name).all, seconds, kill_after=harmless):
            raise errors.FailedError(
                "the server has not ended within %g s; killed, it could lose what it has not written out yet"
                % spec.stop_timeout,
                reason="stop_timeout",
                evidence={"pids": list(watched.now(spec.name).servers)},
            )
        if action.in_unit:
            self._systemd.end_stop(spec.name, START_SECONDS)
        _remove_socket(made)

    def _declare(self, spec: ExportSpec, action: actions.DeclareExport) -> None:
        kind = action.definition.options["supervisor"]
        if action.definition.daemon:
            self._daemons.declare(spec, action.definition)
            kind = ""
        else:
            self._supervisors[kind].declare(spec, action.definition)
            self._daemons.remove(spec)
        for other, supervisor in self._supervisors.items():
            if other != kind:
                supervisor.remove(spec.name)

    def _remove(self, spec: ExportSpec, action: actions.RemoveDefinition) -> None:
        made = declared.read(spec.name)
        for supervisor in self._supervisors.values():
            supervisor.remove(spec.name)
        self._daemons.remove(spec)
        if not (made and made.daemon):
            _remove_socket(made)


def _find_room(plan: t.Sequence[t.Any]) -> None:
    """Before a server ends: what is to be declared in its place can be written."""
    action = next((each for each in plan if isinstance(each, actions.DeclareExport)), None)
    if action is None or not isinstance(plan[0], actions.StopServer):
        return
    made = action.definition
    path = unit.unit_file(action.name)
    if made.daemon:
        path = places.declarations(made.daemon, made.options["supervisor"]) + "/" + action.name
    elif made.options["supervisor"] == "process":
        path = places.definition_file(action.name)
    own_places.find_room(path, made.text.encode("utf-8", "surrogateescape"))


def _daemons_of(item: Item) -> t.Set[str]:
    """The storage daemons that it is in, or is to be in."""
    definitions = (state.definition for state in (item.before, item.after) if state.definition)
    return {name for name in (item.reading.daemon, *(made.daemon for made in definitions)) if name}


def _to_start(item: Item) -> bool:
    return bool(item.after.running and item.after.definition)


def _is_in_daemon(state: t.Any) -> bool:
    return bool(state.definition and state.definition.daemon)


def _supervisor_in(item: Item, kind: str) -> bool:
    """Whether something will be watched over by C(kind)."""
    return bool(item.after.running and item.after.supervisor == kind)


def _stops_unit(item: Item) -> bool:
    return any(isinstance(action, actions.StopServer) and action.in_unit for action in item.plan)


def _kind(state: t.Any) -> str:
    return str(state.definition.options.get("supervisor", "")) if state.definition else ""


def _problem(spec: ExportSpec, action: actions.StartServer) -> t.Optional[str]:
    """Why a server that was started does not serve; empty when it may only need time, None when it does, be it others only."""
    try:
        observe.asked_size(action.name, action.definition)
    except errors.NbdError as exc:
        if exc.reason in ("nbd_refused", "export_missing"):
            return "it says no"
        return None if observe.has_no_place(spec, action.definition) else ""
    return None


def _not_started(supervisor: Supervisor, spec: ExportSpec, fact: str) -> errors.FailedError:
    return errors.FailedError(fact, reason="server_failed", evidence={"log": supervisor.log(spec.name)})


def _remove_socket(made: t.Optional[Definition]) -> None:
    """nbdkit leaves it, and so does a server that is killed."""
    unix_sockets.remove_left(str(made.options.get("socket", "")) if made else "")


def look_again(item: Item, now: observe.Ground) -> None:
    """What is there now must be what was predicted."""
    found, item.reading = observe.observe(item.spec, now)
    if found != item.after:
        raise errors.FailedError(
            "failed: export %s is not as planned after the change: %s instead of %s."
            % (item.name, found.to_facts(), item.after.to_facts()),
            reason="not_as_planned",
        )


def _failed(item: Item, exc: errors.EngineError) -> errors.EngineError:
    """The error of an item, with what was done and what is there now."""
    if isinstance(exc, errors.RefusedError) and not item.done:
        return exc
    watch = watched.now(item.name)
    now = "its server runs." if watch.servers else "nothing serves it."
    exc.message = failed_at(item, exc.message, now)
    return exc
