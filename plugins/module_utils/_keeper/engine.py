# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The keeper engine: what is a keeper's own of what has a program on its host."""

from __future__ import annotations

import contextlib
import json
import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, unit_text
from ansible_collections.platter.qemu.plugins.module_utils._keeper import observe, places, unit, watch
from ansible_collections.platter.qemu.plugins.module_utils._keeper.spec import KeeperSpec
from ansible_collections.platter.qemu.plugins.module_utils._service import engine
from ansible_collections.platter.qemu.plugins.module_utils._service.state import Parts, ServiceState
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_places, processes, supervised, systemd


class KeeperEngine(engine.ServiceEngine):
    """The keeper of one array."""

    noun = "keeper"
    nouns = "keepers"

    def __init__(self, spec: KeeperSpec, *, lock_timeout: float = 30.0) -> None:
        units, what = (unit.unit_name(spec.name),), "the keeper of array %s" % spec.name
        super().__init__(spec, watch, places.directory(spec.name), units, what, lock_timeout)

    def _shown(self, state: ServiceState) -> t.Dict[str, t.Any]:
        return {"supervisor": state.supervisor, "running": state.running and not state.outdated}

    def _refuse(self) -> None:
        spec = self._spec
        if spec.state == "present" and spec.supervisor == "systemd" and not systemd.runs():
            fact, way_out = "systemd does not run here", "Set supervisor: process."
            raise errors.refused_state("keeper", spec.state, spec.name, "supervisor_missing", fact, way_out)

    def _observe(self) -> ServiceState:
        return observe.observe(self._spec.name, self._runner)

    def _wanted(self) -> Parts:
        return observe.wanted(self._spec, self._built)

    def _files(self, supervisor: str, parts: Parts) -> t.List[engine.File]:
        name, declared = self._spec.name, parts.definitions[0].encode()
        own = [
            (places.program_file(name), self._built, 0o600),
            (places.settings_file(name), parts.settings.encode(), 0o600),
        ]
        if supervisor == "systemd":
            return [*own, (unit_text.unit_file(self._units[0]), declared, 0o644)]
        definition = os.path.join(places.directory(name), places.DEFINITION)
        return [*own, (places.supervisor_file(name), observe.supervisor_source(), 0o600), (definition, declared, 0o600)]

    def _readings(self) -> t.Dict[str, t.Any]:
        """What it says of its array."""
        with contextlib.suppress(ValueError):
            return {"status": json.loads(own_places.read_bytes(places.status_file(self._spec.name)) or b"null")}
        return {}

    def _stop(self, supervisor: str) -> None:
        if supervisor == "systemd":
            super()._stop(supervisor)
            return
        name, seconds = self._spec.name, self._spec.timeout
        if not processes.end_all(lambda: observe.processes_of(name), seconds):
            message = "the keeper has not ended in %g s" % seconds
            raise errors.FailedError(message, reason="stop_timeout", evidence={"pids": observe.processes_of(name)})

    def _start(self) -> None:
        """Instead of what runs. systemd goes through with it when we are killed; else the next run does."""
        supervisor, directory = places.supervisor_file(self._spec.name), places.directory(self._spec.name)
        if self._spec.supervisor == "systemd":
            systemd.reload(self._runner, ())
            systemd.tell(self._runner, "restart", "--", self._units[0])
            return
        self._stop("process")
        supervised.start(self._runner, supervisor, directory, timeout=self._spec.timeout)

    def _remove(self, before: ServiceState) -> None:
        super()._remove(before)
        places.remove(self._spec.name)
