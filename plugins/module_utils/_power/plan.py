# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""From what is so to what is asked of the process of one VM. Pure; what must not be done is refused here."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.plan import Action
from ansible_collections.platter.qemu.plugins.module_utils._power import actions, refuse
from ansible_collections.platter.qemu.plugins.module_utils._power.definition import Declared
from ansible_collections.platter.qemu.plugins.module_utils._power.spec import PowerSpec
from ansible_collections.platter.qemu.plugins.module_utils._power.state import PowerReading, PowerState

Plan = t.List[Action[PowerState]]


def plan_power(spec: PowerSpec, state: PowerState, reading: PowerReading, wanted: t.Optional[Declared]) -> Plan:
    """The steps to what C(spec) asks. C(wanted): what is to be declared; None where it is not to run."""
    refuse.refuse_foreign(spec, reading)
    refuse.refuse_foreign_unit(spec, state)
    if wanted is not None:
        return _plan_started(spec, state, reading, wanted)
    plan: Plan = []
    if state.running or reading.watched or state.at_boot:
        plan.append(actions.StopVm(spec.vm, state.running, spec.allow_power_off))
    if spec.state == "absent" and state.declared is not None:
        plan.append(actions.RemoveVm(spec.vm))
    return plan


def _plan_started(spec: PowerSpec, state: PowerState, reading: PowerReading, wanted: Declared) -> Plan:
    refuse.refuse_masked(spec, reading, wanted)
    if not state.running:
        refuse.refuse_altered(spec, reading)
        refuse.refuse_bad_place(spec, reading)
    plan: Plan = []
    if state.declared != wanted:
        plan.append(actions.DeclareVm(spec.vm, wanted))
    if not state.running:
        plan.append(actions.StartVm(spec.vm, wanted))
    elif not state.supervisor or (state.supervisor == "systemd" and not state.at_boot):
        plan.append(actions.SuperviseVm(spec.vm, wanted.supervisor))
    return plan
