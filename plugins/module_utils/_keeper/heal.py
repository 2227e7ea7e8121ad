# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Has an array have all its legs, as the modules would: what they refuse is not done, and told."""

from __future__ import annotations

import shutil
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.platter.qemu.plugins.module_utils._array import observe
from ansible_collections.platter.qemu.plugins.module_utils._array.engine import ArrayEngine
from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._device import definition
from ansible_collections.platter.qemu.plugins.module_utils._device.engine import DeviceEngine
from ansible_collections.platter.qemu.plugins.module_utils._keeper import settings
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_places


@dataclass
class Report:
    """How the array is after a cycle. C(problems): reason and message by leg, or C(array). C(actions): what was done."""

    condition: str = "absent"
    facts: t.Dict[str, t.Any] = field(default_factory=dict)
    problems: t.Dict[str, t.Dict[str, str]] = field(default_factory=dict)
    actions: t.List[str] = field(default_factory=list)


class Healer:
    """C(told): the settings."""

    def __init__(self, told: t.Mapping[str, t.Any]) -> None:
        self._told = told
        self._array = replace(settings.array_of(told), may_be_new=False)
        self._mdadm = shutil.which("mdadm", path=own_places.PATH)
        self._programs = {definition.PROGRAM: shutil.which(definition.PROGRAM, path=own_places.PATH)}
        self._was_well = False

    def cycle(self) -> Report:
        """Look, and do what can be done now."""
        if self._was_well and observe.is_well(self._array):
            return Report("well")
        report = Report()
        item = self._converge(report)
        if item.refusal is not None and item.refusal.facts.get("reason") == "array_failed":
            item = self._stop(report, item)
        if self._attach(report, item):
            item = self._converge(report)
        self._was_well = report.condition == "clean"
        return report

    def _converge(self, report: Report, state: str = "present") -> Item:
        """One run of C(md_array), without the legs that it refuses."""
        left_out: t.Tuple[str, ...] = ()
        while True:
            engine = ArrayEngine(replace(self._array, state=state, left_out=left_out), self._mdadm)
            with engine.hold():
                item = engine.prepare(patient=False)[0]
                engine.execute([item])
            leg = str((item.refusal.facts.get("evidence") or {}).get("leg", "")) if item.refusal else ""
            if item.reading is None and item.refusal is not None:
                raise item.refusal  # nothing could be read, so nothing is known of it
            self._note(report, leg or "array", item)
            runs = item.before.assembled is not None
            if not leg or leg in left_out or not settings.may_go_without(report.problems[leg]["reason"], runs):
                break
            left_out += (leg,)
        told = item.notes["readings"]
        report.condition, report.facts = told["condition"], told
        return item

    def _stop(self, report: Report, failed: Item) -> Item:
        """All legs are lost: it reads and writes nothing until it was stopped."""
        if self._told.get("on_all_lost") == "leave":
            return failed
        item = self._converge(report, "absent")
        return failed if item.refusal or item.error else item

    def _attach(self, report: Report, item: Item) -> bool:
        """One run of C(host_device) for the legs that are not there; whether any has come."""
        legs = observe.observe(self._array, "")[1].legs
        wanted = [name for name, leg in legs.items() if not leg.status and (leg.lost or not leg.there)]
        if not wanted:
            return False
        engine = DeviceEngine([settings.device_of(self._told, name) for name in wanted], self._programs)
        with engine.hold():
            items = engine.prepare(patient=False)
            engine.execute(items)
        for each in items:
            self._note(report, each.name, each)
        return any(each.done for each in items)

    @staticmethod
    def _note(report: Report, about: str, item: Item) -> None:
        report.actions += [str(action) for action in item.plan[: item.done]]
        failure: t.Optional[errors.EngineError] = item.failure
        if failure is not None:
            reason = str(failure.facts.get("reason", "failed"))
            report.problems[about] = {"reason": reason, "message": failure.message}
