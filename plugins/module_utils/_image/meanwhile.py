# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a task that defines VMs has done since it was looked at whose drives the images are, before these go."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, not_begun
from ansible_collections.platter.qemu.plugins.module_utils._image import claimed
from ansible_collections.platter.qemu.plugins.module_utils._inspect import vm_definitions
from ansible_collections.platter.qemu.plugins.module_utils._tools import locks


@contextlib.contextmanager
def no_vm_defined(items: t.Sequence[Item], lock_timeout: float) -> t.Iterator[t.List[Item]]:
    """Those of C(items) that no VM is defined with; while the block removes them, none can be defined. The others have the
    refusal as their error.
    """
    with contextlib.ExitStack() as lock:
        try:  # who defines a VM holds it from the look at its images until the definition is written
            lock.enter_context(locks.ImageLocks((), [vm_definitions.registry()], lock_timeout))
            claimed.guard(items, vm_definitions.named_files())
        except errors.EngineError as exc:
            for item in items:
                item.refusal = not_begun(exc)
        for item in items:
            item.error, item.refusal = item.refusal, None
        yield [item for item in items if not item.error]
