# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The steps that a plan for the process of a VM is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ansible_collections.platter.qemu.plugins.module_utils._core.plan import Action
from ansible_collections.platter.qemu.plugins.module_utils._power.definition import Declared
from ansible_collections.platter.qemu.plugins.module_utils._power.state import PowerState


@dataclass(frozen=True)
class DeclareVm(Action[PowerState]):
    """Write down how it is started, for what watches over it and for later runs."""

    vm: str
    declared: Declared

    def apply(self, state: PowerState) -> PowerState:
        return replace(state, declared=self.declared, at_boot=state.at_boot and self.declared.supervisor == "systemd")

    def __str__(self) -> str:
        told = (self.vm, self.declared.supervisor, self.declared.options["config"], self.declared.options["socket"])
        return "Declare VM %s for %s: as defined in %s, with its monitor at %s." % told


@dataclass(frozen=True)
class StartVm(Action[PowerState]):
    """Start it, and wait until QEMU answers."""

    vm: str
    declared: Declared

    def apply(self, state: PowerState) -> PowerState:
        kind = self.declared.supervisor
        return replace(state, running=True, supervisor=kind, at_boot=kind == "systemd")

    def __str__(self) -> str:
        return "Start VM %s, supervised by %s." % (self.vm, self.declared.supervisor)


@dataclass(frozen=True)
class SuperviseVm(Action[PowerState]):
    """Have one that runs watched over again, or its unit started at boot; the guest notices nothing."""

    vm: str
    supervisor: str

    def apply(self, state: PowerState) -> PowerState:
        return replace(state, supervisor=self.supervisor, at_boot=self.supervisor == "systemd")

    def __str__(self) -> str:
        return "Supervise the running VM %s again." % self.vm


@dataclass(frozen=True)
class StopVm(Action[PowerState]):
    """Have the guest power down, for good: it is not started at boot either. C(power_off): QEMU may be told to quit."""

    vm: str
    running: bool
    power_off: bool = False

    def apply(self, state: PowerState) -> PowerState:
        return replace(state, running=False, supervisor="", at_boot=False)

    def __str__(self) -> str:
        if not self.running:
            return "Have VM %s not started any more." % self.vm
        return "Have the guest of VM %s power down%s." % (self.vm, ", or QEMU quit" if self.power_off else "")


@dataclass(frozen=True)
class RemoveVm(Action[PowerState]):
    """What says how it is started goes, with its log. The definition of its drives stays."""

    vm: str

    def apply(self, state: PowerState) -> PowerState:
        return replace(state, declared=None, at_boot=False)

    def __str__(self) -> str:
        return "Remove what starts VM %s." % self.vm
