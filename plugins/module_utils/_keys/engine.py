# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The keys engine: the keys of one directory observed, planned and made."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.engine import Engine
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, not_begun
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._keys import observe, plan
from ansible_collections.platter.qemu.plugins.module_utils._keys.spec import CERTIFICATES, KeysSpec
from ansible_collections.platter.qemu.plugins.module_utils._keys.state import KeysState
from ansible_collections.platter.qemu.plugins.module_utils._tools import locks, openssl, process


class KeysEngine(Engine):
    """The keys of one directory. C(program): openssl; None where it is not installed."""

    noun = "nbd_keys"
    nouns = "directories"

    def __init__(self, spec: KeysSpec, program: t.Optional[str], *, lock_timeout: float = 30.0) -> None:
        self._spec = spec
        self._lock_timeout = lock_timeout
        self._runner = process.Runner()
        super().__init__(self._runner.commands)
        self._tool = openssl.Openssl(self._runner, program) if program else None

    def hold(self) -> t.ContextManager[t.Any]:
        """Our lock on the directory."""
        return locks.ImageLocks([self._spec.directory], (), self._lock_timeout)

    def prepare(self, patient: bool) -> t.List[Item]:
        """The directory observed and planned."""
        nothing = KeysState(self._spec.directory)
        item = Item(self._spec.directory, self._spec, before=nothing, after=nothing)
        try:
            if self._spec.kind == CERTIFICATES and self._tool is None:
                raise plan.no_openssl(self._spec)
            item.before, item.reading = self._look()
            item.after = item.before
            item.plan = list(plan.plan_keys(self._spec, item.before, item.reading))
            item.after = predict(item.before, item.plan)
            item.warnings += plan.warnings(self._spec, item.after)
        except errors.EngineError as exc:
            item.refusal = not_begun(exc)
        return [item]

    def _look(self) -> t.Tuple[t.Any, t.Any]:
        return observe.Reader(self._spec, self._tool).observe()

    def execute(self, items: t.List[Item]) -> None:
        """Carry out the plan."""
        from ansible_collections.platter.qemu.plugins.module_utils._keys.execute import Executor

        for item in items:
            if item.plan and not item.refusal:
                Executor(self._tool, self._look).run(item)
