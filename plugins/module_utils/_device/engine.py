# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The device engine: the devices of one task observed, planned, guarded and carried out together."""

from __future__ import annotations

import os
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.engine import Engine
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, not_begun
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._device import observe, places, refuse
from ansible_collections.platter.qemu.plugins.module_utils._device.plan import plan_device
from ansible_collections.platter.qemu.plugins.module_utils._device.spec import DeviceSpec
from ansible_collections.platter.qemu.plugins.module_utils._device.state import DeviceReading, DeviceState
from ansible_collections.platter.qemu.plugins.module_utils._tools import locks, process


class DeviceEngine(Engine):
    """Block devices. C(programs): the servers that are installed, by name, and where they are."""

    noun = "device"
    nouns = "devices"

    def __init__(
        self,
        specs: t.Sequence[DeviceSpec],
        programs: t.Mapping[str, t.Optional[str]],
        *,
        workers: int = 0,
        lock_timeout: float = 30.0,
    ) -> None:
        self._specs = list(specs)
        self._programs = programs
        self._workers = workers
        self._lock_timeout = lock_timeout
        self._runner = process.Runner()
        super().__init__(self._runner.commands)

    def facts(self, state: DeviceState) -> t.Dict[str, t.Any]:
        """A state as results show it."""
        return state.to_facts(places.link_of(state.name))

    def hold(self) -> t.ContextManager[t.Any]:
        """Our locks on every device and source of the task."""
        exclusive = {places.link_of(spec.name) for spec in self._specs}
        shared: t.Set[str] = set()
        for spec in self._specs:
            if spec.source is not None:
                (shared if spec.read_only else exclusive).update((spec.source, os.path.realpath(spec.source)))
        return locks.ImageLocks(sorted(exclusive), sorted(shared - exclusive), self._lock_timeout)

    def prepare(self, patient: bool) -> t.List[Item]:
        """Every device observed and planned, in the order of the task; refusals are in the items."""
        if os.geteuid() != 0:
            raise errors.RefusedError(
                "block devices",
                "of this host",
                "only root can have them",
                reason="not_root",
                way_out="Run the task as root (become: true).",
                joined="",
            )
        now = self._now()
        items = [self._planned(spec, now) for spec in self._specs]
        _refuse_duplicates(items)
        if any(item.plan for item in items):
            # imported here, as what acts is below: a run with nothing to do, the usual one, does not pay for it
            from ansible_collections.platter.qemu.plugins.module_utils._device.guard import guard

            guard([item for item in items if not item.refusal])
        for item in items:
            if item.refusal:
                item.plan, item.after = [], item.before
            else:
                item.notes["readings"] = dict(_looked_at(item), **({} if item.plan else _readings(item.reading)))
        return items

    def _now(self) -> observe.Ground:
        return observe.ground(self._runner, self._programs)

    @staticmethod
    def _planned(spec: DeviceSpec, now: observe.Ground) -> Item:
        nothing = DeviceState(spec.name)
        item = Item(spec.name, spec, before=nothing, after=nothing)
        try:
            if spec.overlay_directories:
                from ansible_collections.platter.qemu.plugins.module_utils._inspect import dependents

                dependents.refuse_wrong_directories(spec.overlay_directories)
            item.spec = spec = _with_user(spec)
            item.before, item.reading = observe.observe(spec, now)
            item.after = item.before
            item.plan = list(plan_device(spec, item.before, item.reading, places.link_of(spec.name)))
            item.after = predict(item.before, item.plan)
        except errors.EngineError as exc:
            item.refusal = not_begun(exc)
        return item

    def execute(self, items: t.List[Item]) -> None:
        """Carry out the plans."""
        todo = [item for item in items if item.plan and not item.refusal]
        if todo:
            from ansible_collections.platter.qemu.plugins.module_utils._device.execute import Executor

            Executor(self._runner, self._now, workers=self._workers).run(todo)
            for item in todo:
                item.notes.setdefault("readings", {}).update(_readings(item.reading))


def _with_user(spec: DeviceSpec) -> DeviceSpec:
    """With the name by which a file of keys knows us."""
    if spec.state != "present" or not spec.psk_file or spec.username:
        return spec
    from ansible_collections.platter.qemu.plugins.module_utils._tools import tls

    return replace(spec, username=tls.psk_identity(tls.Credentials(psk_file=spec.psk_file))[0])


def _looked_at(item: Item) -> t.Dict[str, t.Any]:
    """What was on the disk before the task; None where it was attached already, as that is not looked at again."""
    if item.spec.state != "present":
        return {}
    contents = item.reading.contents
    return {"contents": None if contents is None else [each.type for each in contents]}


def _readings(reading: DeviceReading) -> t.Dict[str, t.Any]:
    """What is told beside the state: it is not compared, and check mode does not know it."""
    if not reading.paths:
        return {}
    facts: t.Dict[str, t.Any] = {
        "path": reading.paths[0],
        "partitions": [part.to_facts() for part in reading.partitions],
    }
    return dict(facts, pid=reading.servers[0]) if reading.servers else facts


def _refuse_duplicates(items: t.Sequence[Item]) -> None:
    """Two entries of one name or one device would be planned without knowing of each other."""
    names: t.Set[str] = set()
    devices: t.Dict[str, str] = {}
    for item in items:
        name, device = item.spec.name, item.spec.device
        twice = "it is listed twice" if name in names else ""
        names.add(name)
        if device != "auto" and devices.setdefault(device, name) != name:
            twice = "%s is to be that of device %s too" % (device, devices[device])
        if twice:
            item.plan, item.after = [], item.before
            way_out = "List each device once, each with a name of its own."
            item.refusal = refuse.refused(item.spec, "duplicate_item", twice, way_out)


__all__ = ["DeviceEngine"]
