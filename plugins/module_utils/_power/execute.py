# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Carries out plans, several VMs at a time, and looks again at what came of it."""

from __future__ import annotations

import os
import time
import typing as t
from functools import partial

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, attempt, failed_at
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._power import (
    actions,
    by_process,
    by_systemd,
    declared,
    observe,
    places,
    unit,
    watched,
)
from ansible_collections.platter.qemu.plugins.module_utils._power.button import Button
from ansible_collections.platter.qemu.plugins.module_utils._power.spec import PowerSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import process, processes, unix_sockets
from ansible_collections.platter.qemu.plugins.module_utils._tools.side_by_side import side_by_side

#: they wait most of the time
_MOST_WORKERS = 32
#: seconds between two presses of the power button: a guest that is just starting does not hear the first
_PRESS_AGAIN = 3.0
#: seconds until what is only ours to end has ended
_PATIENCE = 30.0
_POLL_SECONDS = 0.05
#: systemd reads its units in between
_PASSES = ((actions.StopVm,), (actions.DeclareVm, actions.RemoveVm), (actions.StartVm, actions.SuperviseVm))

Supervisor = t.Union[by_process.ByProcess, by_systemd.BySystemd]


class Executor:
    """Runs the actions of items. C(workers) 0: as many as help. C(told): what was sent to QEMUs."""

    def __init__(self, run: process.Runner, *, workers: int) -> None:
        self._run = run
        self._workers = workers or _MOST_WORKERS
        self._systemd = by_systemd.BySystemd(run)
        self._process = by_process.ByProcess(run)
        self._supervisors: t.Dict[str, Supervisor] = {"process": self._process, "systemd": self._systemd}
        self.told: t.List[t.List[str]] = []
        self._methods: t.Dict[t.Any, t.Callable[[PowerSpec, t.Any], None]] = {
            actions.StopVm: self._stop,
            actions.DeclareVm: self._declare,
            actions.StartVm: self._start,
            actions.SuperviseVm: self._supervise,
            actions.RemoveVm: self._remove,
        }

    def run(self, items: t.Sequence[Item]) -> None:
        """Carry out the plans of items."""
        for kind, supervisor in self._supervisors.items():
            if any(item.after.running and item.after.supervisor == kind for item in items):
                supervisor.prepare()
        for kinds in _PASSES:
            side_by_side(
                lambda item, kinds=kinds: attempt(item, partial(self._carry_out, item, kinds), _failed),  # type: ignore[misc]
                [item for item in items if not item.error],
                self._workers,
            )
            if actions.DeclareVm in kinds:
                self._reload([item for item in items if not item.error and _changes_unit(item)])
        whole = [item for item in items if not item.error]
        if whole:
            now = observe.ground(self._run, [item.spec for item in whole])
            for item in whole:
                attempt(item, partial(_look_again, item, now), _failed)

    def _carry_out(self, item: Item, kinds: t.Tuple[type, ...]) -> None:
        while item.done < len(item.plan) and isinstance(item.plan[item.done], kinds):
            action = item.plan[item.done]
            self._methods[type(action)](item.spec, action)
            item.done += 1

    def _reload(self, items: t.Sequence[Item]) -> None:
        """Once for all of them."""
        try:
            if items:
                self._systemd.reload([item.name for item in items])
        except errors.EngineError as exc:
            for item in items:
                item.error = _failed(item, errors.FailedError(exc.message, reason="start_failed"))

    def _declare(self, spec: PowerSpec, action: actions.DeclareVm) -> None:
        self._supervisors[action.declared.supervisor].declare(spec.vm, action.declared)
        for other, supervisor in self._supervisors.items():
            if other != action.declared.supervisor:
                supervisor.remove(spec.vm)

    def _start(self, spec: PowerSpec, action: actions.StartVm) -> None:
        supervisor = self._supervisors[action.declared.supervisor]
        places.make_socket_directory(spec.qmp_socket)
        button = Button(spec.qmp_socket)
        if not _now(spec).servers:
            # one that waits to start it again
            processes.end_all(lambda: _now(spec).supervisors, _PATIENCE)
            supervisor.start(spec.vm)
        try:
            self._await(spec, supervisor, button)
        except errors.RefusedError as exc:
            raise self._unfit(spec, supervisor, exc.message) from exc
        finally:
            self.told += button.commands
        if action.declared.supervisor == "systemd":
            self._systemd.enable(spec.vm)

    def _await(self, spec: PowerSpec, supervisor: Supervisor, button: Button) -> None:
        """Until QEMU answers."""
        deadline = time.monotonic() + spec.start_timeout
        while True:
            watch = _now(spec)
            if watch.servers and os.path.lexists(spec.qmp_socket) and button.answers(watch.servers):
                return
            if supervisor.has_given_up(spec.vm, watch):
                raise self._unfit(spec, supervisor, "it has ended at once")
            if time.monotonic() >= deadline:
                late = "QEMU did not answer within %g s" % spec.start_timeout
                raise self._unfit(spec, supervisor, "%s (%s)" % (late, button.silence) if button.silence else late)
            time.sleep(_POLL_SECONDS)

    @staticmethod
    def _unfit(spec: PowerSpec, supervisor: Supervisor, fact: str) -> errors.FailedError:
        """Nothing of it is left running."""
        supervisor.give_up(spec.vm)
        processes.end_all(lambda: (*_now(spec).supervisors, *_now(spec).servers), unit.QUIT_SECONDS)
        unix_sockets.remove_left(spec.qmp_socket)
        said = "; ".join(supervisor.said(spec.vm)) or "it has said nothing"
        return errors.FailedError(
            "the VM did not start: %s: %s" % (fact.rstrip("."), said),
            reason="start_failed",
            evidence={"log": supervisor.log(spec.vm)},
        )

    def _supervise(self, spec: PowerSpec, action: actions.SuperviseVm) -> None:
        running = _now(spec).servers
        if action.supervisor == "systemd":
            self._systemd.enable(spec.vm)
        elif running:
            self._process.supervise(spec.vm, running[0])

    def _stop(self, spec: PowerSpec, action: actions.StopVm) -> None:
        """The guest first: until it has powered down, all is as it was. Then what would start it again."""
        made = declared.read(spec.vm)
        socket = str(made.options.get("socket", "")) if made else ""
        button = Button(socket or spec.qmp_socket)
        in_unit = _now(spec).supervisor == "systemd"
        try:
            _power_down(spec, button)
        finally:
            self.told += button.commands
        if not processes.end_all(lambda: _now(spec).supervisors, _PATIENCE):
            raise errors.FailedError("its supervisor does not end", reason="stop_timeout")
        if in_unit or declared.in_unit(spec.vm):
            self._systemd.disable(spec.vm)
            self._systemd.end(spec.vm, spec.stop_timeout + 2 * unit.QUIT_SECONDS)
        unix_sockets.remove_left(socket)

    def _remove(self, spec: PowerSpec, action: actions.RemoveVm) -> None:
        made = declared.read(spec.vm)
        for supervisor in self._supervisors.values():
            supervisor.remove(spec.vm)
        unix_sockets.remove_left(str(made.options.get("socket", "")) if made else "")


def _power_down(spec: PowerSpec, button: Button) -> None:
    """Wait until the guest has; whatever starts it anew meanwhile."""
    deadline, again, quits = time.monotonic() + spec.stop_timeout, 0.0, False
    seen: t.Set[int] = set()
    while True:
        running = _now(spec).servers
        if not running:
            processes.let_close(seen)
            return
        seen.update(running)
        if time.monotonic() >= deadline:
            if quits or not spec.allow_power_off:
                raise _still_there(spec, running, button, quits)
            button.quit(running)
            deadline, quits = time.monotonic() + unit.QUIT_SECONDS, True
        elif time.monotonic() >= again and not quits:
            button.press(running)
            again = time.monotonic() + _PRESS_AGAIN
        time.sleep(_POLL_SECONDS)


def _still_there(spec: PowerSpec, running: t.Sequence[int], button: Button, quits: bool) -> errors.FailedError:
    evidence = {"pids": list(running), "run_state": button.run_state}
    if quits:
        fact = "QEMU was told to quit, and has not ended within %g s: it may be writing out what it holds"
        return errors.FailedError(fact % unit.QUIT_SECONDS, reason="stop_timeout", evidence=evidence)
    fact = "the guest has not powered down within %g s, and goes on" % spec.stop_timeout
    if button.run_state:
        fact += "; QEMU says that it is %s" % button.run_state
    if button.run_state in ("paused", "prelaunch", "suspended", "io-error", "inmigrate", "debug"):
        fact += ", and so it hears nothing"
    if button.silence:
        fact += "; %s" % button.silence.rstrip(".")
    fact += ". Have it power down from within, or set allow_power_off: true"
    return errors.FailedError(fact, reason="stop_timeout", evidence=evidence)


def _now(spec: PowerSpec) -> watched.Watch:
    return watched.now(spec.vm, spec.vm)


def _changes_unit(item: Item) -> bool:
    """Whether systemd has to read its units again."""
    kinds = {state.declared.supervisor for state in (item.before, item.after) if state.declared}
    return "systemd" in kinds


def _look_again(item: Item, now: observe.Ground) -> None:
    """What is there now must be what was predicted."""
    found = observe.observe(item.spec, now)
    item.reading = found.reading
    if found.state == item.after:
        return
    if item.after.running and not found.state.running:
        raise errors.FailedError("the VM has started, and ended by itself", reason="start_failed")
    raise errors.FailedError(
        "failed: VM %s is not as planned after the change: %s instead of %s."
        % (item.name, found.state.to_facts(), item.after.to_facts()),
        reason="not_as_planned",
    )


def _failed(item: Item, exc: errors.EngineError) -> errors.EngineError:
    """The error of an item, with what was done and what is there now."""
    item.after = predict(item.before, item.plan[: item.done])
    now = "the VM runs." if _now(item.spec).servers else "the VM does not run."
    if isinstance(exc, errors.RefusedError):
        exc = errors.FailedError(exc.message, **exc.facts)
    exc.message = failed_at(item, exc.message, now)
    return exc
