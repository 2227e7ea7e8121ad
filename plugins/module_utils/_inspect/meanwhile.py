# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What tasks that define VMs have done since it was looked at whose drives the images are, before these change or go."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, not_begun
from ansible_collections.platter.qemu.plugins.module_utils._inspect import vm_definitions
from ansible_collections.platter.qemu.plugins.module_utils._tools import locks

Named = vm_definitions.Named
#: refuses those of the items that harm what VMs are defined with
Judge = t.Callable[[t.Sequence[Item], t.Sequence[Named]], None]


class Definitions:
    """The definitions of all VMs, while a task acts. C(lock_timeout): seconds that one which writes them is waited for."""

    def __init__(self, lock_timeout: float) -> None:
        self._lock_timeout = lock_timeout
        self._known: t.FrozenSet[Named] = frozenset()
        self._kept = False

    @contextlib.contextmanager
    def kept(self, items: t.Sequence[Item], judge: Judge) -> t.Iterator[t.List[Item]]:
        """Those of C(items) that C(judge) lets go on by the definitions of now; while the block runs none is written. The
        others have the refusal as their error.
        """
        with contextlib.ExitStack() as lock:
            try:
                named = lock.enter_context(self._locked())
                self._known = frozenset(named)
                judge(items, named)
            except errors.EngineError as exc:
                for item in items:
                    item.refusal = not_begun(exc)
            for item in items:
                item.warnings = list(dict.fromkeys(item.warnings))  # it was judged before
                item.error, item.refusal = item.refusal, None
                item.after = item.before if item.error else item.after
            lock.callback(setattr, self, "_kept", False)
            self._kept = True
            yield [item for item in items if not item.error]

    @contextlib.contextmanager
    def since(self) -> t.Iterator[t.List[Named]]:
        """What VMs are newly defined with since then; while the block runs none is written. Raises RefusedError."""
        if self._kept:
            yield []
            return
        with self._locked() as named:
            yield [each for each in named if each not in self._known]

    @contextlib.contextmanager
    def _locked(self) -> t.Iterator[t.List[Named]]:
        # who defines a VM holds it from the look at its images until the definition is written
        with locks.ImageLocks((), [vm_definitions.registry()], self._lock_timeout):
            yield vm_definitions.named_files()
