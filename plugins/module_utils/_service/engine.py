# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What has a program of ours on its host, and has it run: one service observed, planned and carried out."""

from __future__ import annotations

import os
import typing as t
from types import ModuleType

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.engine import Engine
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, attempt, failed_at
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._service import actions
from ansible_collections.platter.qemu.plugins.module_utils._service.plan import plan_service
from ansible_collections.platter.qemu.plugins.module_utils._service.state import Parts, ServiceState
from ansible_collections.platter.qemu.plugins.module_utils._tools import locks, own_places, own_zipapp, process, systemd

#: path, content, mode
File = t.Tuple[str, bytes, int]


class ServiceEngine(Engine):
    """One service; each resource says below what its own is.

    C(program): the module that is written as a program. C(directory): of its files. C(units): of systemd, the first of which is
    started and stopped.
    """

    def __init__(
        self, spec: t.Any, program: ModuleType, directory: str, units: t.Sequence[str], what: str, lock_timeout: float
    ) -> None:
        self._spec = spec
        self._program = program
        self._directory = directory
        self._units = units
        self._what = what
        self._lock_timeout = lock_timeout
        self._runner = process.Runner()
        super().__init__(self._runner.commands)
        self._built = b""

    def _refuse(self) -> None:
        """What cannot be on this host."""

    def _observe(self) -> ServiceState:
        raise NotImplementedError

    def _wanted(self) -> Parts:
        raise NotImplementedError

    def _files(self, supervisor: str, parts: Parts) -> t.List[File]:
        """The first is what is run."""
        raise NotImplementedError

    def _readings(self) -> t.Dict[str, t.Any]:
        """What it says of itself."""
        raise NotImplementedError

    def _shown(self, state: ServiceState) -> t.Dict[str, t.Any]:
        """More of one that is there."""
        raise NotImplementedError

    def facts(self, state: ServiceState) -> t.Dict[str, t.Any]:
        """A state as results show it."""
        facts: t.Dict[str, t.Any] = {"name": state.name, "state": "present" if state.parts else "absent"}
        if state.parts:
            facts.update(self._shown(state), program=state.parts.program)
        return facts

    def managed(self, state: ServiceState) -> t.Dict[str, t.Any]:
        """A state as diffs show it."""
        return dict(self.facts(state), **({"settings": state.parts.settings} if state.parts else {}))

    def hold(self) -> t.ContextManager[t.Any]:
        """Our lock on it."""
        return locks.ImageLocks([self._directory], [], self._lock_timeout)

    def prepare(self, patient: bool) -> t.List[Item]:
        """It observed and planned."""
        spec = self._spec
        if os.geteuid() != 0:
            fact, way_out = "only root can have it", "Run the task as root (become: true)."
            raise errors.refused_state(self.noun, spec.state, spec.name, "not_root", fact, way_out)
        self._refuse()
        own_places.refuse_unsafe_way(self._directory, "what a %s runs" % self.noun)
        before = self._observe()
        self._built = own_zipapp.build(self._program) if spec.state == "present" else b""
        wanted = self._wanted() if spec.state == "present" else None
        plan = plan_service(self._what, spec.supervisor, before, wanted)
        item = Item(spec.name, spec, before=before, plan=list(plan), after=predict(before, plan))
        item.notes["readings"] = self._readings()
        return [item]

    def execute(self, items: t.List[Item]) -> None:
        """Carry out the plan."""
        for item in items:
            if item.plan:
                attempt(item, lambda item=item: self._carry_out(item), self._failed)  # type: ignore[misc]

    def _carry_out(self, item: Item) -> None:
        methods: t.Dict[t.Any, t.Callable[[t.Any], None]] = {
            actions.StopService: lambda _action: self._stop(item.before.supervisor),
            actions.RemoveService: lambda _action: self._remove(item.before),
            actions.WriteService: self._write,
            actions.StartService: lambda _action: self._start(),
        }
        self._find_room(item)
        for action in item.plan:
            methods[type(action)](action)
            item.done += 1
        item.notes["readings"] = self._readings()
        found = self._observe()
        if found != item.after:
            text = "failed: %s is not as planned after the change: %s instead of %s."
            raise errors.FailedError(
                text % (self._what, self.facts(found), self.facts(item.after)), reason="not_as_planned"
            )

    def _find_room(self, item: Item) -> None:
        """Before any of its files is another's, and what runs has ended. Raises OSError."""
        for action in (action for action in item.plan if isinstance(action, actions.WriteService)):
            by_directory: t.Dict[str, t.List[File]] = {}
            for each in self._files(action.supervisor, action.parts):
                by_directory.setdefault(os.path.dirname(each[0]), []).append(each)
            for files in by_directory.values():
                own_places.find_room(files[0][0], b"".join(data for _path, data, _mode in files))

    def _write(self, action: actions.WriteService) -> None:
        for path, data, mode in self._files(action.supervisor, action.parts):
            own_places.write_private(path, data, mode)
        if action.supervisor == "systemd":
            systemd.enable(self._units[0])

    def _stop(self, supervisor: str) -> None:
        systemd.tell(self._runner, "stop", "--", self._units[0])

    def _start(self) -> None:
        raise NotImplementedError

    def _remove(self, before: ServiceState) -> None:
        """Its directory too, of each resource."""
        if before.supervisor != "systemd" and not before.enabled:
            return
        for each in self._units:
            systemd.remove(each)
        if systemd.runs():
            systemd.reload(self._runner, self._units)

    def _failed(self, item: Item, exc: errors.EngineError) -> errors.EngineError:
        exc.message = failed_at(item, exc.message, "see %s." % self._directory)
        return exc
