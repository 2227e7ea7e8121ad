# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The export engine: the NBD exports of one task observed, planned, guarded and carried out together."""

from __future__ import annotations

import os
import time
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, words
from ansible_collections.platter.qemu.plugins.module_utils._core.engine import Engine
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, not_begun
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._export import (
    actions,
    choice,
    declared,
    definition,
    observe,
    places,
    programs,
    refuse,
    unit,
)
from ansible_collections.platter.qemu.plugins.module_utils._export.ground import Ground
from ansible_collections.platter.qemu.plugins.module_utils._export.plan import plan_export
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec
from ansible_collections.platter.qemu.plugins.module_utils._export.state import Definition, ExportReading, ExportState
from ansible_collections.platter.qemu.plugins.module_utils._tools import locks, process
from ansible_collections.platter.qemu.plugins.module_utils._tools.side_by_side import side_by_side

_ASKED_AT_ONCE = 16
#: seconds that the kernel gets to close the listener of a server that was killed, at a place that is to be taken
CLOSING_SECONDS = 1.0
_POLL_SECONDS = 0.02


class ExportEngine(Engine):
    """Exports. C(programs): the servers by name, and where they are; None for one that is not installed."""

    noun = "export"
    nouns = "exports"

    def __init__(
        self,
        specs: t.Sequence[ExportSpec],
        programs: t.Mapping[str, t.Optional[str]],
        *,
        workers: int = 0,
        lock_timeout: float = 30.0,
    ) -> None:
        self._specs = list(specs)
        self._programs = {name: path for name, path in programs.items() if path}
        self._workers = workers
        self._lock_timeout = lock_timeout
        self._runner = process.Runner()
        super().__init__(self._runner.commands)

    def hold(self) -> t.ContextManager[t.Any]:
        """Our locks on every export and image of the task."""
        exclusive = {places.export_directory(spec.name) for spec in self._specs}
        exclusive.update(places.export_directory(places.host_name(name)) for name in self._daemons())
        shared: t.Set[str] = set()
        for spec in self._specs:
            if spec.image is not None:
                (exclusive if spec.writes else shared).update((spec.image, os.path.realpath(spec.image)))
        return locks.ImageLocks(sorted(exclusive), sorted(shared - exclusive), self._lock_timeout)

    def _daemons(self) -> t.Set[str]:
        """The storage daemons that the exports of the task are in, or are to be in."""
        named = {spec.daemon for spec in self._specs if spec.daemon}
        found = [declared.place_in_daemon(spec.name) for spec in self._specs] if places.any_hosts() else []
        return named | {place.daemon for place in found if place}

    def prepare(self, patient: bool) -> t.List[Item]:
        """Every export observed and planned, in the order of the task; refusals are in the items."""
        places.refuse_unsafe_top()
        items = self._planned_by_what_stays()
        _refuse_duplicates(items)
        if any(item.plan for item in items):
            # imported here, as what acts is below: a run with nothing to do, the usual one, does not pay for it
            from ansible_collections.platter.qemu.plugins.module_utils._export.guard import guard

            guard([item for item in items if not item.refusal], self._runner)
        for item in items:
            if item.refusal:
                item.plan, item.after = [], item.before
            elif not item.plan:
                item.notes["readings"] = _readings(item.reading)
        return items

    def _planned_by_what_stays(self) -> t.List[Item]:
        """Looked at again while a place is only still taken by what the kernel is about to close."""
        deadline = time.monotonic() + CLOSING_SECONDS
        while True:
            items = self._planned_all(observe.ground(self._runner, self._specs))
            closing = any(item.reading and item.reading.closing for item in items)
            if not closing or time.monotonic() >= deadline:
                return items
            time.sleep(_POLL_SECONDS)

    def _planned_all(self, now: observe.Ground) -> t.List[Item]:
        """Servers are asked side by side: those that do not answer are waited for together."""
        return side_by_side(lambda spec: self._planned(spec, now), self._specs, _ASKED_AT_ONCE)

    def _planned(self, spec: ExportSpec, now: observe.Ground) -> Item:
        nothing = ExportState(spec.name)
        item = Item(spec.name, spec, before=nothing, after=nothing)
        try:
            if spec.overlay_directories:
                from ansible_collections.platter.qemu.plugins.module_utils._inspect import dependents

                dependents.refuse_wrong_directories(spec.overlay_directories)
            item.before, item.reading = observe.observe(spec, now)
            item.after = item.before
            wanted, why = self._wanted(spec, item.before, item.reading)
            item.plan = list(plan_export(spec, item.before, item.reading, wanted, why))
            item.after = predict(item.before, item.plan)
            item.warnings += _warnings(spec, item.reading, item.plan)
        except errors.EngineError as exc:
            item.refusal = not_begun(exc)
        return item

    def _wanted(
        self, spec: ExportSpec, before: ExportState, reading: ExportReading
    ) -> t.Tuple[t.Optional[Definition], str]:
        """Its definition, and why it is served by which server."""
        if spec.state != "present":
            return None, ""
        served_by = before.definition.options.get("server", "") if before.definition else ""
        chosen = choice.choose(spec, self._programs, served_by)
        supervisor = observe.supervisor_of(spec)
        if supervisor == "systemd" and not observe.may_use_systemd():
            raise refuse.no_systemd(spec, os.geteuid() == 0)
        made = definition.define(spec, self._ground(spec, reading, chosen.server, supervisor))
        if supervisor == "process":
            return made, chosen.why
        if made.host:
            host = unit.as_unit(places.host_name(made.daemon), made.host, "")
            return replace(made, host=host), chosen.why
        return unit.as_unit(spec.name, made, reading.target), chosen.why

    def _ground(self, spec: ExportSpec, reading: ExportReading, server: str, supervisor: str) -> Ground:
        ground = Ground(reading.target, reading.kind == "block", self._programs[server], "", supervisor, server)
        ground = ground._replace(certificates=reading.certificates)
        if spec.daemon is None:
            holder = programs.words("hold_image.py", supervisor)
            return ground._replace(directory=places.export_directory(spec.name, supervisor), holder=holder)
        monitor = places.monitor(spec.daemon)
        loader = programs.words("load_exports.py", supervisor)
        return ground._replace(
            directory=places.export_directory(places.host_name(spec.daemon), supervisor),
            monitor=monitor,
            loader=(*loader, places.declarations(spec.daemon, supervisor), monitor),
        )

    def execute(self, items: t.List[Item]) -> None:
        """Carry out the plans."""
        todo = [item for item in items if item.plan and not item.refusal]
        if todo:
            from ansible_collections.platter.qemu.plugins.module_utils._export.execute import Executor

            Executor(self._runner, workers=self._workers).run(todo)
            for item in todo:
                item.notes["readings"] = _readings(item.reading)


def _readings(reading: ExportReading) -> t.Dict[str, t.Any]:
    """What is told beside the state: it is not compared, and check mode does not know it."""
    if not reading.pids:
        return {}
    facts: t.Dict[str, t.Any] = {"pid": reading.pids[0], "clients": [client.to_facts() for client in reading.clients]}
    return facts if reading.answered is None else dict(facts, virtual_size=reading.answered)


def _warnings(spec: ExportSpec, reading: ExportReading, plan: t.Sequence[t.Any]) -> t.List[str]:
    """What cannot be foretold."""
    taken = any(isinstance(action, actions.StopServer) and action.daemon for action in plan)
    if not taken or not reading.clients or spec.allow_disconnect:
        return []
    told = (words.counted(len(reading.clients), "client"), reading.daemon, spec.name)
    return ["%s of storage daemon %s: whether export %s is used is known when it is taken out (export_busy)." % told]


def _refuse_duplicates(items: t.Sequence[Item]) -> None:
    """Two entries of one name or one place would be planned without knowing of each other. A storage daemon has one place
    for all its exports.
    """
    names: t.Set[str] = set()
    owners: t.Dict[str, str] = {}
    hosts: t.Dict[str, t.Tuple[str, t.Any]] = {}
    for item in items:
        spec, refusal = item.spec, None
        owner = places.host_name(spec.daemon) if spec.daemon else spec.name
        if spec.name in names:
            refusal = _twice(spec, "it is listed twice")
        elif spec.state == "present" and owners.setdefault(spec.where, owner) != owner:
            whose = owners[spec.where]
            kind = "storage daemon" if whose.startswith(":") else "export"
            refusal = _twice(spec, "its place %s is that of %s %s too" % (spec.where, kind, whose.lstrip(":")))
        elif spec.state == "present" and spec.daemon:
            as_there = (spec.where, spec.tls, spec.shared, spec.supervisor)
            first, said = hosts.setdefault(spec.daemon, (spec.name, as_there))
            if said != as_there:
                refusal = refuse.daemon_differs(spec, spec.daemon, [first])
        names.add(spec.name)
        if refusal:
            item.plan, item.after, item.refusal = [], item.before, refusal


def _twice(spec: ExportSpec, fact: str) -> errors.RefusedError:
    return refuse.refused(spec, "duplicate_item", fact, "List each export once, each at a place of its own.")


__all__ = ["ExportEngine"]
