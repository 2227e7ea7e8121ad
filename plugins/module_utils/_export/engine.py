# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The export engine: the NBD exports of one task observed, planned, guarded and carried out together."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, not_begun
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._export import (
    choice,
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


class ExportEngine:
    """What C(_module/run.py) drives. C(programs): the servers by name, and where they are; None for
    one that is not installed."""

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

    @property
    def commands(self) -> t.List[t.List[str]]:
        """Every command that was run, as argument lists."""
        return self._runner.commands

    @staticmethod
    def facts(state: ExportState) -> t.Dict[str, t.Any]:
        """A state as results show it."""
        return state.to_facts()

    @staticmethod
    def managed(state: ExportState) -> t.Dict[str, t.Any]:
        """A state as diffs show it."""
        return state.to_facts()

    def hold(self) -> t.ContextManager[t.Any]:
        """Our locks on every export and image of the task."""
        exclusive = {places.export_directory(spec.name) for spec in self._specs}
        shared: t.Set[str] = set()
        for spec in self._specs:
            if spec.image is not None:
                (exclusive if spec.writes else shared).update((spec.image, os.path.realpath(spec.image)))
        return locks.ImageLocks(sorted(exclusive), sorted(shared - exclusive), self._lock_timeout)

    def prepare(self, patient: bool) -> t.List[Item]:
        """Every export observed and planned, in the order of the task; refusals are in the items."""
        items = self._planned_all(observe.ground(self._runner, self._specs))
        _refuse_duplicates(items)
        if any(item.plan for item in items):
            # imported here, as what acts is below: a run with nothing to do, the usual one, does not pay for it
            from ansible_collections.platter.qemu.plugins.module_utils._export.guard import guard

            guard([item for item in items if not item.refusal])
        for item in items:
            if item.refusal:
                item.plan, item.after = [], item.before
            elif not item.plan:
                item.notes["readings"] = _readings(item.reading)
        return items

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
        except errors.EngineError as exc:
            item.refusal = not_begun(exc)
        return item

    def _wanted(
        self, spec: ExportSpec, before: ExportState, reading: ExportReading
    ) -> t.Tuple[t.Optional[Definition], str]:
        """Its definition, and why it is served by which server."""
        if spec.state != "present":
            return None, ""
        declared = before.definition.options.get("server", "") if before.definition else ""
        chosen = choice.choose(spec, self._programs, declared)
        supervisor = observe.supervisor_of(spec)
        if supervisor == "systemd" and not observe.may_use_systemd():
            raise refuse.no_systemd(spec, os.geteuid() == 0)
        directory = places.export_directory(spec.name, supervisor)
        program = self._programs[chosen.server]
        holder = programs.words("hold_image.py", supervisor)
        ground = Ground(reading.target, reading.kind == "block", program, directory, supervisor, chosen.server, holder)
        made = definition.define(spec, ground)
        return (unit.as_unit(spec.name, made, reading.target) if supervisor == "systemd" else made), chosen.why

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


def _refuse_duplicates(items: t.Sequence[Item]) -> None:
    """Two entries of one name or one socket would be planned without knowing of each other."""
    names: t.Set[str] = set()
    sockets: t.Dict[str, str] = {}
    for item in items:
        name, path = item.spec.name, item.spec.where
        twice = "it is listed twice" if name in names else ""
        names.add(name)
        if item.spec.state == "present" and sockets.setdefault(path, name) != name:
            twice = "its place %s is that of export %s too" % (path, sockets[path])
        if twice:
            item.plan, item.after = [], item.before
            item.refusal = refuse.refused(
                item.spec, "duplicate_item", twice, "List each export once, each at a place of its own."
            )


__all__ = ["ExportEngine"]
