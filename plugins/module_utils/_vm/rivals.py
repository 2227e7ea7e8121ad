# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What other VMs are defined with: as it is on the host, and of VMs of the same task as it will be. Read-only."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._vm import definition, held, places, store

Defined = t.Optional[definition.VmDefinition]


class Rivals:
    """All definitions but one's own. Each is read once for all VMs of a task."""

    def __init__(self, items: t.Sequence[Item]) -> None:
        #: of the task's own VMs; who is refused by then keeps what it has
        self._planned: t.Dict[str, Defined] = {os.path.realpath(i.spec.config): i.after.defined for i in items}
        self._on_host: t.Dict[str, Defined] = {}
        #: by identity, with what it is about, so that no other takes its number
        self._indexes: t.Dict[int, t.Tuple[definition.VmDefinition, held.Index]] = {}

    def besides(self, config: str) -> t.Iterator[t.Tuple[definition.VmDefinition, str, held.Index]]:
        """Those of others than the VM in C(config), with where they are and what they hold. What cannot be read stops the
        task, as nobody knows what it claims.
        """
        own = os.path.realpath(config)
        for where in dict.fromkeys([*places.known(config), *self._planned]):
            found = self._defined(where) if where != own else None
            if found is not None:
                yield found, where, self._index(found)

    def _defined(self, where: str) -> Defined:
        if where in self._planned:
            return self._planned[where]
        if where not in self._on_host:
            self._on_host[where] = store.read(where)
        return self._on_host[where]

    def _index(self, made: definition.VmDefinition) -> held.Index:
        if id(made) not in self._indexes:
            self._indexes[id(made)] = made, held.Index(held.of_definition(made))
        return self._indexes[id(made)][1]
