# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The keeper engine: the keeper of one array observed, planned and carried out."""

from __future__ import annotations

import contextlib
import json
import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, unit_text
from ansible_collections.platter.qemu.plugins.module_utils._core.engine import Engine
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, attempt, failed_at
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._keeper import actions, observe, places, unit, watch
from ansible_collections.platter.qemu.plugins.module_utils._keeper.plan import plan_keeper
from ansible_collections.platter.qemu.plugins.module_utils._keeper.spec import KeeperSpec
from ansible_collections.platter.qemu.plugins.module_utils._keeper.state import KeeperState
from ansible_collections.platter.qemu.plugins.module_utils._tools import (
    locks,
    own_places,
    own_zipapp,
    process,
    processes,
    supervised,
    systemd,
)


class KeeperEngine(Engine):
    """The keeper of one array."""

    noun = "keeper"
    nouns = "keepers"

    def __init__(self, spec: KeeperSpec, *, lock_timeout: float = 30.0) -> None:
        self._spec = spec
        self._lock_timeout = lock_timeout
        self._runner = process.Runner()
        super().__init__(self._runner.commands)
        self._built = b""

    def facts(self, state: KeeperState) -> t.Dict[str, t.Any]:
        """A state as results show it."""
        return {key: value for key, value in state.to_facts().items() if key != "settings"}

    def managed(self, state: KeeperState) -> t.Dict[str, t.Any]:
        """A state as diffs show it."""
        return state.to_facts()

    def hold(self) -> t.ContextManager[t.Any]:
        """Our lock on the keeper."""
        return locks.ImageLocks([places.directory(self._spec.name)], [], self._lock_timeout)

    def prepare(self, patient: bool) -> t.List[Item]:
        """The keeper observed and planned."""
        spec = self._spec
        if os.geteuid() != 0:
            way_out = "Run the task as root (become: true)."
            fact = "only root can have them"
            raise errors.RefusedError("keepers of arrays", "", fact, reason="not_root", way_out=way_out, joined="")
        if spec.state == "present" and spec.supervisor == "systemd" and not systemd.runs():
            fact, way_out = "systemd does not run here", "Set supervisor: process."
            raise errors.RefusedError(
                "a keeper", spec.name, fact, reason="supervisor_missing", way_out=way_out, joined="of array"
            )
        own_places.refuse_unsafe_way(places.directory(spec.name), "what a keeper runs")
        before = observe.observe(spec, self._runner)
        self._built = own_zipapp.build(watch) if spec.state == "present" else b""
        wanted = observe.wanted(spec, self._built) if spec.state == "present" else None
        plan = plan_keeper(spec, before, wanted)
        item = Item(spec.name, spec, before=before, plan=list(plan), after=predict(before, plan))
        self._tell(item)
        return [item]

    def execute(self, items: t.List[Item]) -> None:
        """Carry out the plan."""
        for item in items:
            if item.plan:
                attempt(item, lambda item=item: self._carry_out(item), _failed)  # type: ignore[misc]
                self._tell(item)

    def _tell(self, item: Item) -> None:
        """What it says of its array."""
        with contextlib.suppress(ValueError):
            item.notes["readings"] = {
                "status": json.loads(own_places.read_bytes(places.status_file(item.name)) or b"null")
            }

    def _carry_out(self, item: Item) -> None:
        methods: t.Dict[t.Any, t.Callable[[t.Any], None]] = {
            actions.EndKeeper: lambda _action: self._end(item.before.supervisor),
            actions.RemoveKeeper: lambda _action: self._remove(item.before.supervisor),
            actions.WriteKeeper: self._write,
            actions.StartKeeper: lambda _action: self._start(),
        }
        self._find_room(item)
        while item.done < len(item.plan):
            action = item.plan[item.done]
            methods[type(action)](action)
            item.done += 1
        found = observe.observe(self._spec, self._runner)
        if found != item.after:
            text = "failed: the keeper of array %s is not as planned after the change: %s instead of %s."
            raise errors.FailedError(
                text % (item.name, self.facts(found), self.facts(item.after)), reason="not_as_planned"
            )

    def _find_room(self, item: Item) -> None:
        """Before the keeper that is there is ended: an array without one loses its legs. Raises OSError."""
        for action in (action for action in item.plan if isinstance(action, actions.WriteKeeper)):
            own_places.find_room(places.program_file(item.name), self._built + action.parts.settings.encode())
            if action.supervisor == "systemd":
                unit_file = unit_text.unit_file(unit.unit_name(item.name))
                own_places.find_room(unit_file, action.parts.definition.encode())

    def _end(self, supervisor: str) -> None:
        name = self._spec.name
        if supervisor == "systemd":
            systemd.tell(self._runner, "stop", "--", unit.unit_name(name))
            return
        if not processes.end_all(lambda: observe.processes_of(name), self._spec.timeout):
            message = "the keeper has not ended in %g s" % self._spec.timeout
            raise errors.FailedError(message, reason="stop_timeout", evidence={"pids": observe.processes_of(name)})

    def _remove(self, supervisor: str) -> None:
        name = self._spec.name
        if supervisor == "systemd":
            systemd.remove(unit.unit_name(name))
            systemd.reload(self._runner, ())
        places.remove(name)

    def _write(self, action: actions.WriteKeeper) -> None:
        name = self._spec.name
        own_places.write_private(places.settings_file(name), action.parts.settings.encode())
        own_places.write_private(places.program_file(name), self._built)
        if action.supervisor != "systemd":
            own_places.write_private(places.supervisor_file(name), observe.supervisor_source())
            own_places.write_private(
                os.path.join(places.directory(name), places.DEFINITION), action.parts.definition.encode()
            )
            return
        own_places.write_private(unit_text.unit_file(unit.unit_name(name)), action.parts.definition.encode(), 0o644)
        systemd.enable(unit.unit_name(name))

    def _start(self) -> None:
        """Instead of what runs. systemd goes through with it when we are killed; else the next run does."""
        name = self._spec.name
        if self._spec.supervisor == "systemd":
            systemd.reload(self._runner, ())
            systemd.tell(self._runner, "restart", "--", unit.unit_name(name))
            return
        self._end("process")
        supervised.start(self._runner, places.supervisor_file(name), places.directory(name), timeout=self._spec.timeout)


def _failed(item: Item, exc: errors.EngineError) -> errors.EngineError:
    exc.message = failed_at(item, exc.message, "see %s." % places.directory(item.name))
    return exc
