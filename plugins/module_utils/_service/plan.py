# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""From what is so to what is asked of one service. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.plan import Action
from ansible_collections.platter.qemu.plugins.module_utils._service import actions
from ansible_collections.platter.qemu.plugins.module_utils._service.state import Parts, ServiceState

Plan = t.List[Action[ServiceState]]


def plan_service(what: str, supervisor: str, state: ServiceState, wanted: t.Optional[Parts]) -> Plan:
    """The steps to C(wanted), run by C(supervisor); None where it is to go.

    What runs goes on until others are written: a task that is killed in between would leave none.
    """
    plan: Plan = []
    if wanted is None or state.supervisor != supervisor:
        if state.running:
            plan.append(actions.StopService(what))
        if state.parts is not None or (wanted is None and state.enabled):
            plan.append(actions.RemoveService(what))
    if wanted is None:
        return plan
    is_right = state.parts == wanted and state.supervisor == supervisor
    is_right = is_right and state.enabled == (supervisor == "systemd")
    if not is_right:
        plan.append(actions.WriteService(what, wanted, supervisor))
    if not (is_right and state.running and not state.outdated):
        plan.append(actions.StartService(what))
    return plan
