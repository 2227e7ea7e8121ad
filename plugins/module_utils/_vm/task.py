# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The engine of C(qemu_drive): the VMs of one task planned, guarded and proven together, then written one after the other."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.engine import Engine
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._tools import locks
from ansible_collections.platter.qemu.plugins.module_utils._tools.side_by_side import side_by_side
from ansible_collections.platter.qemu.plugins.module_utils._vm import engine, places
from ansible_collections.platter.qemu.plugins.module_utils._vm.spec import VmSpec
from ansible_collections.platter.qemu.plugins.module_utils._vm.state import VmState

if t.TYPE_CHECKING:
    from ansible_collections.platter.qemu.plugins.module_utils._vm import rivals

Pairs = t.Sequence[t.Tuple[engine.VmEngine, Item]]

#: each proof is a QEMU that reads the images
_MOST_WORKERS = 8


class TaskEngine(Engine):
    """Definitions of VMs. C(qemu): the program of this host, where nothing says which."""

    noun = "definition"
    nouns = "vms"

    def __init__(self, specs: t.Sequence[VmSpec], qemu: str, *, workers: int = 0, lock_timeout: float = 30.0) -> None:
        super().__init__()
        self._vms = [engine.VmEngine(spec, qemu) for spec in specs]
        self._workers = workers or min(_MOST_WORKERS, os.cpu_count() or 1)
        self._lock_timeout = lock_timeout
        self._on_all = contextlib.ExitStack()

    @property
    def commands(self) -> t.List[t.List[str]]:
        """Every command that was run, as argument lists."""
        return [command for vm in self._vms for command in vm.commands]

    def managed(self, state: VmState) -> t.Dict[str, t.Any]:
        """A state as diffs show it, with the drives of the running VM."""
        if state.live is None:
            return state.to_facts()
        from ansible_collections.platter.qemu.plugins.module_utils._vm import live

        return dict(state.to_facts(), live=live.drives_of(state.live))

    @contextlib.contextmanager
    def hold(self) -> t.Iterator[None]:
        """Our locks on these VMs; and, until what they claim is written down, on all definitions: who claims an image must
        know of all others that do.
        """
        own = {name for vm in self._vms for name in (places.record(vm.spec.vm), os.path.realpath(vm.spec.config))}
        with locks.ImageLocks(sorted(own), timeout=self._lock_timeout), self._on_all as on_all:
            on_all.enter_context(locks.ImageLocks([places.registry()], timeout=self._lock_timeout))
            yield

    def prepare(self, patient: bool) -> t.List[Item]:
        """Every VM observed, planned, guarded and proven, in the order of the task; refusals are in the items."""
        items = [vm.planned(foretold=not patient) for vm in self._vms]
        _refuse_duplicates(items)
        self._guard(_going_on(zip(self._vms, items)), items)
        return items

    def _guard(self, pairs: Pairs, items: t.Sequence[Item]) -> None:
        """VMs of one task are judged by what they will have: one can take over what another gives up."""
        writing = any(engine.writes(item) for _vm, item in pairs)
        others = _rivals(items) if writing else None  # a run with nothing to do does not pay for it
        for vm, item in pairs:
            vm.guard(item, others)
        if writing:
            self._prove(_going_on(pairs), len(pairs), items)

    def _prove(self, left: Pairs, before: int, items: t.Sequence[Item]) -> None:
        """By QEMU; then once more by what others have, as who is refused keeps that. C(before): how many there were."""
        side_by_side(lambda pair: pair[0].prove(pair[1]), left, self._workers)
        left = _going_on(left)
        while len(left) < before:
            others = _rivals(items)
            for vm, item in left:
                vm.guard_claims(item, others)
            before, left = len(left), _going_on(left)

    def execute(self, items: t.List[Item]) -> None:
        """Carry out the plans: definitions first, those that go before others."""
        todo = [(vm, item) for vm, item in zip(self._vms, items) if item.plan and not item.refusal]
        for vm, item in sorted(todo, key=lambda pair: pair[1].after.defined is not None):
            if len(engine.live_steps(item)) < len(item.plan):
                vm.write(item)
        changing = [(vm, item) for vm, item in todo if engine.live_steps(item) and not item.error]
        if changing:
            self._on_all.close()  # a guest may think about it for as long as it is given
            side_by_side(lambda pair: pair[0].change(pair[1]), changing, max(self._workers, _MOST_WORKERS))


def _rivals(items: t.Sequence[Item]) -> rivals.Rivals:
    from ansible_collections.platter.qemu.plugins.module_utils._vm import rivals as found

    return found.Rivals(items)


def _going_on(pairs: t.Iterable[t.Tuple[engine.VmEngine, Item]]) -> Pairs:
    return [(vm, item) for vm, item in pairs if not item.refusal]


def _refuse_duplicates(items: t.Sequence[Item]) -> None:
    """Two entries of one VM, or of one directory, would be planned without knowing of each other."""
    names: t.Set[str] = set()
    owners: t.Dict[str, str] = {}
    for item in items:
        vm, config = item.spec.vm, os.path.realpath(item.spec.config)
        fact = ""
        if vm in names:
            fact = "it is listed twice"
        elif owners.setdefault(config, vm) != vm:
            fact = "its directory %s is that of VM %s too" % (item.spec.config, owners[config])
        names.add(vm)
        if fact:
            way_out = "List each VM once, each with a directory of its own."
            item.plan, item.after = [], item.before
            item.refusal = errors.RefusedError(
                "the drives",
                "VM " + vm,
                fact,
                reason="duplicate_item",
                way_out=way_out,
                evidence={"vm": vm},
                joined="of",
            )


__all__ = ["TaskEngine"]
