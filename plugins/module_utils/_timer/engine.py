# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The timer engine: what is a timer's own of what has a program on its host."""

from __future__ import annotations

import shutil
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, unit_text
from ansible_collections.platter.qemu.plugins.module_utils._service import engine
from ansible_collections.platter.qemu.plugins.module_utils._service.state import Parts, ServiceState
from ansible_collections.platter.qemu.plugins.module_utils._timer import observe, places, read_spec, take, unit
from ansible_collections.platter.qemu.plugins.module_utils._timer.spec import TimerSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import process, systemd


class TimerEngine(engine.ServiceEngine):
    """The timer of one name. A run has the lock on its timer too: nothing of what it needs is changed under it."""

    noun = "timer"
    nouns = "timers"

    def __init__(self, spec: TimerSpec, *, lock_timeout: float = 30.0) -> None:
        units = (unit.timer_name(spec.name), unit.service_name(spec.name))
        what = "the timer of snapshots %s" % spec.name
        super().__init__(spec, take, places.directory(spec.name), units, what, lock_timeout)

    def managed(self, state: ServiceState) -> t.Dict[str, t.Any]:
        """With the time that it waits for."""
        return dict(super().managed(state), **({"timer": state.parts.definitions[-1]} if state.parts else {}))

    def _shown(self, state: ServiceState) -> t.Dict[str, t.Any]:
        return {"active": state.running and not state.outdated}

    def _refuse(self) -> None:
        spec = self._spec
        if spec.state == "present" and not systemd.runs():
            way_out = "Run image_snapshot from a playbook there, at the times that your own scheduler knows."
            raise read_spec.refused_state(spec, "supervisor_missing", "systemd does not run on this host", way_out)
        # else systemd says so when the timer is started
        if spec.state == "present" and shutil.which("systemd-analyze"):
            self._refuse_bad_calendar()
        observe.refuse_others(spec)

    def _refuse_bad_calendar(self) -> None:
        when = self._spec.on_calendar
        try:
            told = process.run(self._runner, ["systemd-analyze", "calendar", "--", when])[1]
        except errors.ToolError as exc:
            why = "systemd says %s" % " ".join((exc.stderr or exc.stdout).split())
            raise read_spec.no_calendar(self._spec.name, when, why) from exc
        if "Next elapse: never" in told:  # systemd would show a timer that is active and waits for nothing
            raise read_spec.never(self._spec.name, when)

    def _observe(self) -> ServiceState:
        return observe.observe(self._spec.name, self._runner)

    def _wanted(self) -> Parts:
        return observe.wanted(self._spec, self._built)

    def _files(self, supervisor: str, parts: Parts) -> t.List[engine.File]:
        name, (service, timer) = self._spec.name, parts.definitions
        return [
            (places.program_file(name), self._built, 0o600),
            (places.settings_file(name), parts.settings.encode("utf-8", "surrogateescape"), 0o600),
            (unit_text.unit_file(unit.service_name(name)), service.encode(), 0o644),
            (unit_text.unit_file(unit.timer_name(name)), timer.encode(), 0o644),
        ]

    def _readings(self) -> t.Dict[str, t.Any]:
        if self._spec.state == "absent":
            return {"last_run": None}
        name = self._spec.name
        return {"last_run": observe.last_run(name), "run_failed": observe.run_failed(name, self._runner)}

    def _start(self) -> None:
        """Reading its units again systemd has a timer that waits do so for its new time."""
        systemd.reload(self._runner, ())
        systemd.tell(self._runner, "start", "--", self._units[0])

    def _remove(self, before: ServiceState) -> None:
        super()._remove(before)
        places.remove(self._spec.name, self._units[0])
