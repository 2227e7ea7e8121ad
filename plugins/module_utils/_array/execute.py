# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Carries out the plan for an array, and looks again at what came of it."""

from __future__ import annotations

import contextlib
import os
import time
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._array import actions, observe
from ansible_collections.platter.qemu.plugins.module_utils._array.spec import ArraySpec
from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, attempt, failed_at
from ansible_collections.platter.qemu.plugins.module_utils._tools import block_device, mdadm, process

_POLL_SECONDS = 0.05
#: until udev, where there is one, has made the link
_LINK_SECONDS = 5.0


class Executor:
    """Runs the steps of one array. C(run): what runs commands; C(program): mdadm."""

    def __init__(self, run: process.RunCommand, spec: ArraySpec, program: str) -> None:
        self._spec, self._program = spec, program
        self._door = mdadm.Mdadm(run, program, spec.timeout)
        self._devices = {leg.name: leg.device for leg in spec.legs}
        self._methods: t.Dict[t.Any, t.Callable[[str, t.Any], None]] = {
            actions.StopArray: lambda path, _action: self._stop(path),
            actions.CreateArray: lambda _path, action: self._create(action),
            actions.AssembleArray: lambda _path, action: self._assemble(action),
            actions.RemoveFaulty: self._remove,
            actions.DropLeg: self._drop,
            actions.ReAddLeg: lambda path, action: self._add(path, self._devices[action.leg], again=True),
            actions.FillLeg: lambda path, action: self._add(path, self._devices[action.leg], again=False),
        }

    def run(self, item: Item) -> None:
        """All steps, then the last look."""
        attempt(item, lambda: self._carry_out(item), _failed)

    def _carry_out(self, item: Item) -> None:
        while item.done < len(item.plan):
            action = item.plan[item.done]
            self._methods[type(action)](item.reading.path or os.path.realpath(self._spec.link), action)
            item.done += 1
        found, item.reading = observe.observe(self._spec, self._program)
        if found != item.after:
            link = self._spec.link
            text = "failed: array %s is not as planned after the change: %s instead of %s."
            message = text % (item.name, found.to_facts(link), item.after.to_facts(link))
            raise errors.FailedError(message, reason="not_as_planned")

    def _create(self, action: actions.CreateArray) -> None:
        spec, wanted = self._spec, action.wanted
        devices = [self._devices[name] for name in action.legs]
        self._door.create(spec.link, spec.uuid, spec.name, wanted.level, wanted.policy, devices)
        self._lead()

    def _assemble(self, action: actions.AssembleArray) -> None:
        self._door.assemble(self._spec.link, self._spec.uuid, [self._devices[name] for name in action.legs])
        self._lead()

    def _lead(self) -> None:
        """Have the link lead to the array: udev does it, or mdadm where there is none; else it is done here."""
        path, link = "/dev/" + observe.find(self._spec), self._spec.link
        deadline = time.monotonic() + _LINK_SECONDS
        while os.path.realpath(link) != path:
            if time.monotonic() >= deadline:
                os.makedirs(os.path.dirname(link), exist_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(link)
                os.symlink(path, link)
            time.sleep(_POLL_SECONDS)

    def _stop(self, path: str) -> None:
        self._door.stop(path)
        with contextlib.suppress(FileNotFoundError):
            if os.path.realpath(self._spec.link) == path:
                os.unlink(self._spec.link)

    def _remove(self, path: str, action: actions.RemoveFaulty) -> None:
        for device in action.devices:
            self._out(path, "/dev/" + device)

    def _drop(self, path: str, action: actions.DropLeg) -> None:
        device = "/dev/" + block_device.name_of(self._devices[action.leg])
        self._door.fail(path, device)
        self._out(path, device)

    def _out(self, path: str, device: str) -> None:
        """md says that it is busy for as long as requests to it have not come back."""
        deadline = time.monotonic() + self._spec.timeout
        while True:
            try:
                return self._door.remove(path, device)
            except errors.ToolError as exc:
                if "busy" not in exc.stderr or time.monotonic() >= deadline:
                    raise
            time.sleep(_POLL_SECONDS)

    def _add(self, path: str, device: str, *, again: bool) -> None:
        if again:
            self._door.add_again(path, device)
        else:
            self._door.add(path, device)


def _failed(item: Item, exc: errors.EngineError) -> errors.EngineError:
    """The error, with what was done and what is there now."""
    name = observe.find(item.spec)
    exc.message = failed_at(item, exc.message, "it runs as /dev/%s." % name if name else "it does not run.")
    return exc
