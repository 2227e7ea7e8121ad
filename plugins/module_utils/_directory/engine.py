# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The engine of directories: many of one task observed, planned and made."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.engine import Engine
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, attempt, failed_at, not_begun
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._directory import descend, plan
from ansible_collections.platter.qemu.plugins.module_utils._directory.spec import DirectorySpec
from ansible_collections.platter.qemu.plugins.module_utils._directory.state import DirectoryState
from ansible_collections.platter.qemu.plugins.module_utils._tools import locks


class Attributes(t.Protocol):
    """Owner, group, mode and the like of the directory of a spec, at the path by which it is reached."""

    def desired(self, spec: DirectorySpec, members: t.Sequence[str]) -> t.Any:
        """What is asked."""

    def current(self, members: t.Sequence[str], desired: t.Any) -> t.Any:
        """What is so, of that."""

    def apply(self, spec: DirectorySpec, path: str) -> None:
        """Makes it so."""


class DirectoryEngine(Engine):
    """Directories for images."""

    noun = "directory"
    nouns = "directories"

    def __init__(self, specs: t.Sequence[DirectorySpec], attributes: Attributes, *, lock_timeout: float = 30.0) -> None:
        super().__init__()
        self._specs = specs
        self._attributes = attributes
        self._lock_timeout = lock_timeout

    def hold(self) -> t.ContextManager[t.Any]:
        """Our locks on the directories."""
        return locks.ImageLocks([spec.path for spec in self._specs], (), self._lock_timeout)

    def prepare(self, patient: bool) -> t.List[Item]:
        """Each directory observed and planned."""
        return [self._planned(spec) for spec in self._specs]

    def _planned(self, spec: DirectorySpec) -> Item:
        nothing = DirectoryState(spec.path)
        item = Item(spec.path, spec, before=nothing, after=nothing)
        try:
            item.before, wanted = self._look(spec)
            item.plan = list(plan.plan_directory(item.before, wanted))
            item.after = predict(item.before, item.plan)
        except errors.EngineError as exc:
            item.refusal = not_begun(exc)
        return item

    def _look(self, spec: DirectorySpec) -> t.Tuple[DirectoryState, t.Any]:
        with descend.opened(spec.path) as found:
            if found.missing:
                return DirectoryState(spec.path), self._attributes.desired(spec, [spec.path])
            name = descend.name_of(found.descriptor)
            wanted = self._attributes.desired(spec, [name])
            return DirectoryState(spec.path, True, self._attributes.current([name], wanted)), wanted

    def execute(self, items: t.List[Item]) -> None:
        """Carry out the plans, in the order of the task; nothing is begun after a failure."""
        for item in items:
            if item.plan and not item.refusal:
                self._run(item)
                if item.error:
                    return

    def _run(self, item: Item) -> None:
        attempt(item, lambda: self._carry_out(item), _failed)

    def _carry_out(self, item: Item) -> None:
        def dress(name: str) -> None:
            self._attributes.apply(item.spec, name)

        with descend.opened(item.name) as found:
            descend.make(item.name, found, dress)
            if not found.missing:
                dress(descend.name_of(found.descriptor))
        item.done = len(item.plan)
        if self._look(item.spec)[0] != item.after:
            raise errors.FailedError(
                "failed: %s is not as planned after the change" % item.name, reason="not_as_planned"
            )


def _failed(item: Item, exc: errors.EngineError) -> errors.EngineError:
    exc.message = failed_at(item, exc.message, "directories that were made stay.")
    return exc
