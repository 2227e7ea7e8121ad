# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The timer engine: one timer observed, planned and carried out."""

from __future__ import annotations

import os
import shutil
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, unit_text
from ansible_collections.platter.qemu.plugins.module_utils._core.engine import Engine
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, attempt, failed_at
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._timer import actions, observe, places, read_spec, take, unit
from ansible_collections.platter.qemu.plugins.module_utils._timer.plan import plan_timer
from ansible_collections.platter.qemu.plugins.module_utils._timer.spec import TimerSpec
from ansible_collections.platter.qemu.plugins.module_utils._timer.state import TimerState
from ansible_collections.platter.qemu.plugins.module_utils._tools import locks, own_places, own_zipapp, process, systemd


class TimerEngine(Engine):
    """The timer of one name."""

    noun = "timer"
    nouns = "timers"

    def __init__(self, spec: TimerSpec, *, lock_timeout: float = 30.0) -> None:
        self._spec = spec
        self._lock_timeout = lock_timeout
        self._runner = process.Runner()
        super().__init__(self._runner.commands)
        self._built = b""

    def facts(self, state: TimerState) -> t.Dict[str, t.Any]:
        """A state as results show it."""
        return {key: value for key, value in state.to_facts().items() if key not in ("settings", "timer")}

    def managed(self, state: TimerState) -> t.Dict[str, t.Any]:
        """A state as diffs show it."""
        return state.to_facts()

    def hold(self) -> t.ContextManager[t.Any]:
        """Our lock on the timer. A run has it too: nothing of what it needs is changed under it."""
        return locks.ImageLocks([places.directory(self._spec.name)], [], self._lock_timeout)

    def prepare(self, patient: bool) -> t.List[Item]:
        """The timer observed and planned."""
        spec = self._spec
        self._refuse_impossible()
        own_places.refuse_unsafe_way(places.directory(spec.name), "what a timer runs")
        observe.refuse_others(spec.name)
        before = observe.observe(spec.name, self._runner)
        self._built = own_zipapp.build(take) if spec.state == "present" else b""
        wanted = observe.wanted(spec, self._built) if spec.state == "present" else None
        plan = plan_timer(spec, before, wanted)
        item = Item(spec.name, spec, before=before, plan=list(plan), after=predict(before, plan))
        item.notes["readings"] = {"last_run": observe.last_run(spec.name) if wanted else None}
        if wanted:
            item.notes["readings"]["run_failed"] = observe.run_failed(spec.name, self._runner)
        return [item]

    def _refuse_impossible(self) -> None:
        name, joined = self._spec.name, ""
        if os.geteuid() != 0:
            way_out = "Run the task as root (become: true)."
            fact = "units of systemd are root's to write"
            raise errors.RefusedError("a timer", name, fact, reason="not_root", way_out=way_out, joined=joined)
        if self._spec.state == "absent":
            return
        if not systemd.runs():
            way_out = "Run image_snapshot from a playbook there, at the times that your own scheduler knows."
            fact = "systemd does not run on this host"
            raise errors.RefusedError(
                "a timer", name, fact, reason="supervisor_missing", way_out=way_out, joined=joined
            )
        if shutil.which("systemd-analyze"):  # else systemd says so when the timer is started
            self._refuse_bad_calendar()

    def _refuse_bad_calendar(self) -> None:
        when = self._spec.on_calendar
        try:
            told = process.run(self._runner, ["systemd-analyze", "calendar", "--", when])[1]
        except errors.ToolError as exc:
            why = "systemd says %s" % " ".join((exc.stderr or exc.stdout).split())
            raise read_spec.no_calendar(self._spec.name, when, why) from exc
        if "Next elapse: never" in told:  # systemd would show a timer that is active and waits for nothing
            raise read_spec.never(self._spec.name, when)

    def execute(self, items: t.List[Item]) -> None:
        """Carry out the plan."""
        for item in items:
            if item.plan:
                attempt(item, lambda item=item: self._carry_out(item), _failed)  # type: ignore[misc]

    def _carry_out(self, item: Item) -> None:
        timer = unit.timer_name(item.name)
        methods: t.Dict[t.Any, t.Callable[[t.Any], None]] = {
            actions.StopTimer: lambda _action: systemd.tell(self._runner, "stop", "--", timer),
            actions.RemoveTimer: lambda _action: self._remove(),
            actions.WriteTimer: self._write,
            actions.StartTimer: lambda _action: self._start(timer),
        }
        self._find_room(item)
        for action in item.plan:
            methods[type(action)](action)
            item.done += 1
        found = observe.observe(item.name, self._runner)
        if found != item.after:
            text = "failed: the timer of snapshots %s is not as planned after the change: %s instead of %s."
            raise errors.FailedError(
                text % (item.name, self.facts(found), self.facts(item.after)), reason="not_as_planned"
            )

    def _find_room(self, item: Item) -> None:
        """Before any of its files is another's. Raises OSError."""
        for parts in (action.parts for action in item.plan if isinstance(action, actions.WriteTimer)):
            told = parts.settings.encode("utf-8", "surrogateescape")
            own_places.find_room(places.program_file(item.name), self._built + told)
            units = (parts.service + parts.timer).encode()
            own_places.find_room(unit_text.unit_file(unit.timer_name(item.name)), units)

    def _remove(self) -> None:
        name = self._spec.name
        timer, service = unit.timer_name(name), unit.service_name(name)
        for each in (timer, service):
            systemd.remove(each)
        if systemd.runs():
            systemd.reload(self._runner, [timer, service])
        places.remove(name, timer)

    def _write(self, action: actions.WriteTimer) -> None:
        name, parts = self._spec.name, action.parts
        own_places.write_private(places.program_file(name), self._built)
        own_places.write_private(places.settings_file(name), parts.settings.encode("utf-8", "surrogateescape"))
        own_places.write_private(unit_text.unit_file(unit.service_name(name)), parts.service.encode(), 0o644)
        own_places.write_private(unit_text.unit_file(unit.timer_name(name)), parts.timer.encode(), 0o644)
        systemd.enable(unit.timer_name(name))

    def _start(self, timer: str) -> None:
        """Reading its units again systemd has a timer that waits do so for its new time."""
        systemd.reload(self._runner, ())
        systemd.tell(self._runner, "start", "--", timer)


def _failed(item: Item, exc: errors.EngineError) -> errors.EngineError:
    exc.message = failed_at(item, exc.message, "see systemctl status %s." % unit.timer_name(item.name))
    return exc
