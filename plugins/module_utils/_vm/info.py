# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The drives of VMs: as they are defined, as QEMU was started with them, and as it has them now. Read-only."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import DrivesSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import processes
from ansible_collections.platter.qemu.plugins.module_utils._vm import places, read_spec, running, store
from ansible_collections.platter.qemu.plugins.module_utils._vm.definition import VmDefinition
from ansible_collections.platter.qemu.plugins.module_utils._vm.state import VmState

Facts = t.Dict[str, t.Any]


class DriveInfoReader:
    """Answers the options of C(qemu_drive_info)."""

    def __init__(self, params: t.Mapping[str, t.Any]) -> None:
        self._params = params
        self._vm = str(params.get("vm") or "")
        self._config = _config(params)

    def read(self) -> Facts:
        """The result of the module."""
        found: Facts = {}
        defined = store.read(self._config) if self._config else None
        if self._config:
            found["definition"] = self._defined(self._config, defined)
            found["processes"] = self._processes(defined)
        if self._params.get("pid") is not None:
            found["started"] = _started(int(self._params["pid"]))
        if self._params.get("qmp_socket"):
            found["live"] = _live(str(self._params["qmp_socket"]), defined)
        return found or self._all()

    def _defined(self, config: str, defined: t.Optional[VmDefinition]) -> Facts:
        vm = defined.vm if defined is not None else self._vm
        return VmState(vm, config, defined, defined is None or store.is_whole(config, defined)).to_facts()

    def _processes(self, defined: t.Optional[VmDefinition]) -> t.List[int]:
        names = running.names_of(defined) if defined is not None else {self._vm} - {""}
        return sorted(running.processes_of(names))

    def _all(self) -> Facts:
        """Every definition of this host; what cannot be read is a warning, as nothing is decided by it."""
        definitions, warnings = [], []
        for config in places.known(read_spec.DIRECTORY + "/any"):
            try:
                defined = store.read(config)
            except errors.EngineError as exc:
                warnings.append(exc.message)
                continue
            definitions += [self._defined(config, defined)] if defined is not None else []
        return {"definitions": definitions, "warnings": warnings}


def _config(params: t.Mapping[str, t.Any]) -> str:
    """Where the definition is, if the task is about one: where it says, or where the VM is recorded."""
    if params.get("config"):
        return str(params["config"]).rstrip("/")
    if not params.get("vm"):
        return ""
    usual = read_spec.read_spec({"vm": params["vm"]}).config
    recorded = places.record(str(params["vm"]))
    return os.path.realpath(recorded) if os.path.islink(recorded) else usual


def _started(pid: int) -> Facts:
    from ansible_collections.platter.qemu.plugins.module_utils._vm import info_facts

    try:
        words = processes.command_line(pid)
    except OSError as exc:
        raise _unknown(pid, str(exc.strerror)) from exc
    if not running.is_qemu(words):
        raise _unknown(pid, "it is no QEMU")
    try:
        return dict(info_facts.started(running.own_words(words)), pid=pid, vm=running.name_of(words) or None)
    except (errors.EngineError, ValueError) as exc:
        raise _unknown(pid, "its arguments cannot be read (%s)" % exc) from exc


def _unknown(pid: int, fact: str) -> errors.EngineError:
    return errors.EngineError("process %d: %s" % (pid, fact), reason="process_unreadable", evidence={"pid": pid})


def _live(path: str, defined: t.Optional[VmDefinition]) -> Facts:
    from ansible_collections.platter.qemu.plugins.module_utils._vm import info_facts, live

    wanted = defined.spec if defined is not None else DrivesSpec()
    looked = live.look(path, wanted)
    if looked is None:
        return {"qmp_socket": path, "running": False}
    found = dict(info_facts.live(looked.state), qmp_socket=path, running=True)
    if defined is not None:
        compared = live.to_facts(path, looked, defined)
        found.update((key, compared[key]) for key in ("drift", "needs_restart", "undeclared"))
    return found
