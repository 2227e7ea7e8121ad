# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""From what is so to what is asked of one timer. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.plan import Action
from ansible_collections.platter.qemu.plugins.module_utils._timer import actions
from ansible_collections.platter.qemu.plugins.module_utils._timer.spec import Parts, TimerSpec
from ansible_collections.platter.qemu.plugins.module_utils._timer.state import TimerState

Plan = t.List[Action[TimerState]]


def plan_timer(spec: TimerSpec, state: TimerState, wanted: t.Optional[Parts]) -> Plan:
    """The steps to what C(spec) asks. C(wanted): what it is to consist of; None where it is to go.

    It is never stopped for others to be written: a task that is killed in between would leave it so.
    """
    plan: Plan = []
    if wanted is None:
        if state.active:
            plan.append(actions.StopTimer(spec.name))
        return [*plan, actions.RemoveTimer(spec.name)] if state.parts is not None or state.enabled else plan
    is_right = state.parts == wanted and state.enabled
    if not is_right:
        plan.append(actions.WriteTimer(spec.name, wanted))
    if not (is_right and state.active and not state.outdated):
        plan.append(actions.StartTimer(spec.name))
    return plan
