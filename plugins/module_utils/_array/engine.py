# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The array engine: one array observed, planned and carried out."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._array import observe
from ansible_collections.platter.qemu.plugins.module_utils._array.plan import condition_of, plan_array
from ansible_collections.platter.qemu.plugins.module_utils._array.spec import ArraySpec
from ansible_collections.platter.qemu.plugins.module_utils._array.state import ArrayReading, ArrayState, LegReading
from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.engine import Engine
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, not_begun
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._tools import locks, process


class ArrayEngine(Engine):
    """One array. C(program): mdadm, where it is installed."""

    noun = "array"
    nouns = "arrays"

    def __init__(self, spec: ArraySpec, program: t.Optional[str], *, lock_timeout: float = 30.0) -> None:
        self._spec = spec
        self._program = program or ""
        self._lock_timeout = lock_timeout
        self._runner = process.Runner()
        super().__init__(self._runner.commands)

    def facts(self, state: ArrayState) -> t.Dict[str, t.Any]:
        """A state as results show it."""
        return dict(state.to_facts(self._spec.link), uuid=self._spec.uuid)

    def managed(self, state: ArrayState) -> t.Dict[str, t.Any]:
        """A state as diffs show it."""
        return state.to_facts(self._spec.link)

    def hold(self) -> t.ContextManager[t.Any]:
        """Our lock on the array."""
        return locks.ImageLocks([self._spec.link], [], self._lock_timeout)

    def prepare(self, patient: bool) -> t.List[Item]:
        """The array observed and planned; a refusal is in the item."""
        if os.geteuid() != 0:
            raise errors.RefusedError(
                "arrays",
                "of this host",
                "only root can have them",
                reason="not_root",
                way_out="Run the task as root (become: true).",
                joined="",
            )
        nothing = ArrayState(self._spec.name)
        item = Item(self._spec.name, self._spec, before=nothing, after=nothing)
        try:
            item.before, item.reading = observe.observe(self._spec, self._program)
            item.after = item.before
            item.plan = plan_array(self._spec, item.before, item.reading)
            item.after = predict(item.before, item.plan)
        except errors.EngineError as exc:
            item.refusal = not_begun(exc)
        self._tell(item, item.before)
        return [item]

    def execute(self, items: t.List[Item]) -> None:
        """Carry out the plan."""
        from ansible_collections.platter.qemu.plugins.module_utils._array.execute import Executor

        for item in items:
            if item.plan and not item.refusal:
                Executor(self._runner, self._spec, self._program).run(item)
                self._tell(item, item.before if item.error else item.after)

    def _tell(self, item: Item, state: ArrayState) -> None:
        """What is told beside the state: it is not compared, and check mode does not know what a change makes of it."""
        if item.reading is None:
            return
        condition, sentence = condition_of(state, item.reading)
        item.notes["readings"] = _readings(self._spec, item.reading, condition)
        item.warnings = []
        if condition in ("degraded", "failed") and self._spec.state == "present":
            item.warnings.append("array %s is %s: %s." % (item.name, condition, sentence))


def _readings(spec: ArraySpec, reading: ArrayReading, condition: str) -> t.Dict[str, t.Any]:
    facts: t.Dict[str, t.Any] = {"condition": condition, "percent": reading.percent}
    facts["legs"] = [
        {
            "name": leg.name,
            "server": leg.server or None,
            "device": leg.device,
            "state": _leg_state(spec, reading.legs[leg.name]),
            "slot": reading.legs[leg.name].slot,
        }
        for leg in spec.legs
    ]
    return dict(facts, path=reading.path, size=reading.size) if reading.path else facts


def _leg_state(spec: ArraySpec, leg: LegReading) -> str:
    if not leg.there:
        return "missing"
    if leg.lost:
        return "lost"
    if leg.status:
        return leg.status
    if leg.superblock is not None and leg.superblock.uuid == spec.uuid:
        return "away"
    return "blank" if leg.is_blank else "foreign"


__all__ = ["ArrayEngine"]
