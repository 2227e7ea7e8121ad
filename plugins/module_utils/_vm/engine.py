# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""One VM of a task of C(qemu_drive): its definition observed, planned, guarded, proven and written."""

from __future__ import annotations

import contextlib
import os
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, attempt, failed_at, not_begun
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._tools import process
from ansible_collections.platter.qemu.plugins.module_utils._vm import actions, places, running, store
from ansible_collections.platter.qemu.plugins.module_utils._vm.plan import plan_vm
from ansible_collections.platter.qemu.plugins.module_utils._vm.spec import VmSpec
from ansible_collections.platter.qemu.plugins.module_utils._vm.state import VmState

if t.TYPE_CHECKING:
    from ansible_collections.platter.qemu.plugins.module_utils._vm import definition, held, rivals


class VmEngine:
    """C(TaskEngine) has one for each VM. C(qemu): the program of this host, where nothing says which."""

    def __init__(self, spec: VmSpec, qemu: str) -> None:
        self._spec = spec
        self._qemu = qemu
        self._runner = process.Runner()
        self._told: t.List[t.List[str]] = []
        #: of the running VM: its processes, and bytes of the drives that it has open as they are defined
        self._pids: t.AbstractSet[int] = frozenset()
        self._has_open: t.Dict[str, int] = {}
        self._opened: t.List[held.Held] = []

    @property
    def spec(self) -> VmSpec:
        """What is asked of it."""
        return self._spec

    @property
    def commands(self) -> t.List[t.List[str]]:
        """Every command that was run, as argument lists."""
        return self._runner.commands + self._told

    def planned(self, *, foretold: bool = False) -> Item:
        """The VM observed and planned; a refusal is in the item. C(foretold): in a check, where what earlier tasks would do
        has not been done.
        """
        spec = self._spec
        nothing = VmState(spec.vm, spec.config)
        item = Item(spec.vm, spec, before=nothing, after=nothing)
        with _refusal_in(item):
            item.before = item.after = self._observe()
            item.warnings += _warnings_of_absent(spec, item.before, foretold)
            if item.before.left or spec.state == "present":
                store.refuse_unsafe(spec.config)
            if spec.state == "absent" and not spec.config_given:
                self._refuse_elsewhere()
            item.plan = list(plan_vm(spec, item.before, self._qemu))
            if spec.qmp_socket and spec.state == "present":
                self._plan_live(item)
            item.after = predict(item.before, item.plan)
        return item

    def guard(self, item: Item, others: t.Optional[rivals.Rivals]) -> None:
        """Refuse what is somebody else's. C(others): None where nothing is to be written.

        What is said at every run is said here, as it is about the same files.
        """
        with _refusal_in(item):
            self._opened = _opened(item.after.defined)
            if others is not None and writes(item):
                self._guard(item, others)
            self._guard_opening(item, self._opened)
            item.warnings += _warnings(item.after, self._opened)

    def guard_claims(self, item: Item, others: rivals.Rivals) -> None:
        """Once more, when another VM of the task keeps what it was to give up."""
        if writes(item) and item.after.defined is not None:
            from ansible_collections.platter.qemu.plugins.module_utils._vm import exclusive

            with _refusal_in(item):
                exclusive.refuse_others(item.after.defined, self._opened, self._spec.config, others)

    def prove(self, item: Item) -> None:
        """Have QEMU take what is to be written."""
        if item.after.defined is not None and writes(item):
            from ansible_collections.platter.qemu.plugins.module_utils._vm import validate

            with _refusal_in(item):
                proof = validate.Proof(self._runner, item.after.defined, self._spec.timeout, self._has_open)
                proof.refuse(self._spec.validate)
                item.notes["validation"] = proof.notes

    def _observe(self) -> VmState:
        spec = self._spec
        defined = store.read(spec.config)
        whole = defined is None or store.is_whole(spec.config, defined)
        current = defined is None or store.is_current(spec.config)
        return VmState(spec.vm, spec.config, defined, whole, store.has_any(spec.vm, spec.config), current)

    def _refuse_elsewhere(self) -> None:
        """To say that there is no definition, where there is one that the task has not named, would be wrong."""
        from ansible_collections.platter.qemu.plugins.module_utils._vm import exclusive

        exclusive.refuse_second_name(self._spec.vm, self._spec.config, "Set config to that directory.")

    def _plan_live(self, item: Item) -> None:
        """What makes the running VM as it will be defined."""
        from ansible_collections.platter.qemu.plugins.module_utils._vm import live

        spec, wanted = self._spec, predict(item.before, item.plan).defined
        defined = t.cast("definition.VmDefinition", wanted)
        path, drives = t.cast(str, spec.qmp_socket), defined.spec
        names = _names(item.before.defined, defined)
        looked = live.look(path, drives, spec.purge, spec.absent, names=names, pids=bool(item.plan))
        item.notes["live"] = live.to_facts(path, looked, defined)
        if looked is None:
            pids = running.started(names, lambda: _files(item.before.defined, defined))
            if pids:
                raise live.silent(path, spec.vm, pids)
            return
        nameless = looked.plan.steps and not looked.name
        if nameless and not running.using(looked.pids, _files(item.before.defined, defined)):
            raise live.other_vm(path, "")
        self._told += looked.commands
        item.before = item.after = replace(item.before, live=looked.state)
        item.plan += map(actions.ChangeRunning, looked.plan.steps)
        self._pids = looked.pids
        self._has_open = live.open_already(looked, item.before.defined if item.before.whole else None, defined)

    def _guard(self, item: Item, others: rivals.Rivals) -> None:
        """What a run with nothing to do does not need."""
        from ansible_collections.platter.qemu.plugins.module_utils._vm import exclusive, formats, led

        wanted, defined = item.after.defined, item.before.defined
        if defined is not None and defined.vm != self._spec.vm:
            raise exclusive.other_vm(self._spec.vm, defined.vm, self._spec.config)
        if wanted is None:
            return
        known = defined if item.before.whole else None  # else somebody has written there
        exclusive.refuse(wanted, self._opened, known, self._spec.config, self._pids, others=others)
        led.refuse(wanted, self._opened)
        formats.refuse(wanted, known, still_to_be_made=self._spec.validate in ("none", "syntax"))

    def _guard_opening(self, item: Item, opened: t.Sequence[held.Held]) -> None:
        """What the running VM is to open now may be somebody else's since it was defined, or lead elsewhere."""
        steps = live_steps(item)
        named = {part.id for part in (getattr(step, "drive", None) for step in steps) if part is not None}
        named |= {part.name for part in (getattr(step, "node", None) for step in steps) if part is not None}
        new = [each for each in opened if each.claim.drive in named]
        if new:
            from ansible_collections.platter.qemu.plugins.module_utils._vm import exclusive, led

            names = _names(item.before.defined, item.after.defined)
            exclusive.refuse_opening(self._spec.vm, opened, new, names, self._pids)
            led.refuse(t.cast("definition.VmDefinition", item.after.defined), new)

    def write(self, item: Item) -> None:
        """The definition, as planned."""
        attempt(item, lambda: self._write(item), self._failed)

    def _write(self, item: Item) -> None:
        if item.after.defined is None:
            store.remove(self._spec.vm, self._spec.config)
        else:
            store.write(self._spec.config, item.after.defined)
        item.done += 1
        if self._observe() != item.after:
            raise errors.FailedError("the definition is not what was planned", reason="not_as_planned")

    def change(self, item: Item) -> None:
        """The running VM, as planned."""
        attempt(item, lambda: self._change_running(item, live_steps(item)), self._failed)

    def _change_running(self, item: Item, steps: t.Sequence[t.Any]) -> None:
        from ansible_collections.platter.qemu.plugins.module_utils._vm import live

        spec, names = self._spec, _names(item.before.defined, item.after.defined)
        path = t.cast(str, spec.qmp_socket)
        self._told += live.change(path, steps, spec.unplug_timeout, lambda step: _note_done(item, step), names)

    def _failed(self, item: Item, exc: errors.EngineError) -> errors.EngineError:
        """What was done counts: a guest that keeps one drive does not keep the others from going."""
        item.after = predict(item.before, item.plan[: item.done])
        if exc.message.startswith("failed at: "):
            done = " ".join(str(action) for action in item.plan[: item.done])
            exc.message += " Done before: %s" % done if done else " Nothing else was done."
            return exc
        there = os.path.lexists(os.path.join(self._spec.config, places.CURRENT))
        now = "the definition is %s." % ("the old or the new one, whole" if there else "not there")
        return errors.FailedError(failed_at(item, exc.message, now), **exc.facts)


@contextlib.contextmanager
def _refusal_in(item: Item) -> t.Iterator[None]:
    """What ends the block is why nothing is done for that VM."""
    try:
        yield
    except errors.EngineError as exc:
        item.plan, item.after, item.refusal = [], item.before, not_begun(exc)


def live_steps(item: Item) -> t.List[t.Any]:
    """Those that change the running VM."""
    return [each.step for each in item.plan if isinstance(each, actions.ChangeRunning)]


def writes(item: Item) -> bool:
    """Whether the definition is another one then."""
    return len(live_steps(item)) < len(item.plan)


def _names(*definitions: t.Optional[definition.VmDefinition]) -> t.FrozenSet[str]:
    """What the running VM may be called: it may have been started before a change."""
    return frozenset(name for each in definitions if each is not None for name in running.names_of(each))


def _opened(defined: t.Optional[definition.VmDefinition]) -> t.List[held.Held]:
    """Once for a run: the headers of all images are read for it."""
    if defined is None:
        return []
    from ansible_collections.platter.qemu.plugins.module_utils._vm import held

    return held.of_definition(defined)


def _files(*definitions: t.Optional[definition.VmDefinition]) -> t.List[str]:
    return [held.claim.name for each in definitions for held in _opened(each) if held.claim.local]


def _warnings_of_absent(spec: VmSpec, before: VmState, foretold: bool) -> t.List[str]:
    """About what is to be absent: whether a VM runs without a definition then, and what may be a slip."""
    made = before.defined
    if made is None or (spec.state == "present" and not spec.absent):
        return []
    from ansible_collections.platter.qemu.plugins.module_utils._vm import warn

    if spec.state == "present":
        return warn.misspelt(spec, made)
    pids = running.started(_names(made), lambda: _files(made))
    return [warn.left_running(spec.vm, pids, foretold=foretold)] if pids else []


def _warnings(state: VmState, opened: t.Sequence[held.Held]) -> t.List[str]:
    """About what is defined, at every run."""
    if state.defined is None:
        return []
    from ansible_collections.platter.qemu.plugins.module_utils._vm import exclusive, warn

    made, found = state.defined, warn.warnings(state.defined)
    try:
        return found + [warn.built_on(made.vm, claim, overlays) for claim, overlays in exclusive.built_on(opened)]
    except errors.EngineError as exc:
        return [*found, exc.message]


def _note_done(item: Item, step: t.Any) -> None:
    """Steps that wait for a guest are done after others that came later in the plan."""
    action = next(each for each in item.plan[item.done :] if getattr(each, "step", None) is step)
    item.plan.remove(action)
    item.plan.insert(item.done, action)
    item.done += 1
