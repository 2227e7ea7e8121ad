# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The steps that a plan for the drives of a VM is made of."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from ansible_collections.platter.qemu.plugins.module_utils._core.plan import Action
from ansible_collections.platter.qemu.plugins.module_utils._vm import definition
from ansible_collections.platter.qemu.plugins.module_utils._vm.state import VmState


@dataclass(frozen=True)
class WriteDefinition(Action[VmState]):
    """Write the definition and what is made of it, all in one step. C(changes): what is new in it, as parts of a sentence."""

    vm: str
    config: str
    wanted: definition.VmDefinition
    changes: t.Tuple[str, ...]

    def apply(self, state: VmState) -> VmState:
        return replace(state, defined=self.wanted, whole=True, left=True, current=True)

    def __str__(self) -> str:
        return "Define the drives of VM %s in %s: %s." % (self.vm, self.config, "; ".join(self.changes))


@dataclass(frozen=True)
class RemoveDefinition(Action[VmState]):
    """Remove the definition. What else lies in its directory stays."""

    vm: str
    config: str

    def apply(self, state: VmState) -> VmState:
        return replace(state, defined=None, whole=True, left=False, current=True)

    def __str__(self) -> str:
        return "Remove the definition of the drives of VM %s from %s." % (self.vm, self.config)


@dataclass(frozen=True)
class ChangeRunning(Action[VmState]):
    """Have the running VM be as it is defined. C(step): a C(LiveAction)."""

    step: t.Any

    def apply(self, state: VmState) -> VmState:
        return replace(state, live=self.step.apply(state.live))

    def __str__(self) -> str:
        return str(self.step)
