# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The initramfs engine: one file observed, planned and made."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.engine import Engine
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, not_begun
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._initramfs import observe, plan
from ansible_collections.platter.qemu.plugins.module_utils._initramfs.spec import InitramfsSpec
from ansible_collections.platter.qemu.plugins.module_utils._initramfs.state import InitramfsState
from ansible_collections.platter.qemu.plugins.module_utils._tools import locks, process


class InitramfsEngine(Engine):
    """One initramfs."""

    noun = "initramfs"
    nouns = "initramfses"

    def __init__(self, spec: InitramfsSpec, *, lock_timeout: float = 30.0) -> None:
        self._spec = spec
        self._lock_timeout = lock_timeout
        self._runner = process.Runner()
        super().__init__(self._runner.commands)

    def hold(self) -> t.ContextManager[t.Any]:
        """Our lock on the file."""
        return locks.ImageLocks([self._spec.path], (), self._lock_timeout)

    def prepare(self, patient: bool) -> t.List[Item]:
        """The file observed and planned."""
        nothing = InitramfsState(self._spec.path)
        item = Item(self._spec.path, self._spec, before=nothing, after=nothing)
        try:
            item.reading = observe.read_parts(self._spec, self._runner)
            item.before, foreign = observe.observe(self._spec.path)
            item.after = item.before
            item.plan = list(plan.plan_initramfs(self._spec, item.before, item.reading, foreign))
            item.after = predict(item.before, item.plan)
            item.notes.update(_contents(item))
        except errors.EngineError as exc:
            item.refusal = not_begun(exc)
        return [item]

    def execute(self, items: t.List[Item]) -> None:
        """Carry out the plan."""
        from ansible_collections.platter.qemu.plugins.module_utils._initramfs.execute import Executor

        for item in items:
            if item.plan and not item.refusal:
                Executor(lambda: observe.observe(self._spec.path)[0]).run(item)


def _contents(item: Item) -> t.Dict[str, t.Any]:
    if item.spec.root is None:
        return {}
    return {
        "release": item.spec.release,
        "modules": list(item.reading.modules),
        "programs": list(item.reading.programs),
    }
