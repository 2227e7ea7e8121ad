# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The engine of C(qemu_vm): the processes of the VMs of one task observed, planned and carried out together."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.engine import Engine
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, not_begun
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._power import observe, places, refuse
from ansible_collections.platter.qemu.plugins.module_utils._power.plan import plan_power
from ansible_collections.platter.qemu.plugins.module_utils._power.spec import PowerSpec
from ansible_collections.platter.qemu.plugins.module_utils._power.state import PowerReading, PowerState
from ansible_collections.platter.qemu.plugins.module_utils._tools import locks, process


class PowerEngine(Engine):
    """VMs that run or do not."""

    noun = "vm"
    nouns = "vms"

    def __init__(self, specs: t.Sequence[PowerSpec], *, workers: int = 0, lock_timeout: float = 30.0) -> None:
        self._specs = list(specs)
        self._workers = workers
        self._lock_timeout = lock_timeout
        self._runner = process.Runner()
        super().__init__(self._runner.commands)

    def hold(self) -> t.ContextManager[t.Any]:
        """Our locks on the processes of these VMs; what defines their drives goes on meanwhile."""
        return locks.ImageLocks(sorted({places.directory_of(spec.vm) for spec in self._specs}), (), self._lock_timeout)

    def prepare(self, patient: bool) -> t.List[Item]:
        """Every VM observed and planned, in the order of the task; refusals are in the items."""
        places.refuse_unsafe_top()
        now = observe.ground(self._runner, self._specs)
        items = [_planned(spec, now) for spec in self._specs]
        _refuse_duplicates(items)
        for item in items:
            if item.refusal:
                item.plan, item.after = [], item.before
            elif not item.plan:
                item.notes["readings"] = _readings(item.reading)
        return items

    def execute(self, items: t.List[Item]) -> None:
        """Carry out the plans."""
        todo = [item for item in items if item.plan and not item.refusal]
        if todo:
            # imported here, as what acts is below: a run with nothing to do, the usual one, does not pay for it
            from ansible_collections.platter.qemu.plugins.module_utils._power.execute import Executor

            executor = Executor(self._runner, workers=self._workers)
            executor.run(todo)
            self._commands += executor.told
            for item in todo:
                item.notes["readings"] = _readings(item.reading)


def _planned(spec: PowerSpec, now: observe.Ground) -> Item:
    nothing = PowerState(spec.vm)
    item = Item(spec.vm, spec, before=nothing, after=nothing)
    try:
        found = observe.observe(spec, now)
        item.before = item.after = found.state
        item.reading = found.reading
        item.plan = list(plan_power(spec, found.state, found.reading, found.wanted))
        item.after = predict(item.before, item.plan)
    except errors.EngineError as exc:
        item.refusal = not_begun(exc)
        if item.reading is None:
            with contextlib.suppress(errors.EngineError):  # what cannot be read is what is refused
                item.before = item.after = observe.look(spec, now, spec.vm)[0]
    return item


def _readings(reading: t.Optional[PowerReading]) -> t.Dict[str, t.Any]:
    """What is told beside the state: it is not compared, and check mode does not know it."""
    if reading is None or not reading.pids:
        return {}
    facts: t.Dict[str, t.Any] = {"pid": reading.pids[0]}
    return facts if reading.outdated is None else dict(facts, needs_restart=reading.outdated)


def _refuse_duplicates(items: t.Sequence[Item]) -> None:
    """Two entries of one VM or one socket would be planned without knowing of each other."""
    names: t.Set[str] = set()
    sockets: t.Dict[str, str] = {}
    for item in items:
        spec = item.spec
        if spec.vm in names:
            item.refusal = refuse.twice(spec, "it is listed twice")
        elif spec.state == "started" and sockets.setdefault(spec.qmp_socket, spec.vm) != spec.vm:
            fact = "its socket %s is that of VM %s too" % (spec.qmp_socket, sockets[spec.qmp_socket])
            item.refusal = refuse.twice(spec, fact)
        names.add(spec.vm)
