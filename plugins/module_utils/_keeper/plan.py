# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""From what is so to what is asked of one keeper. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.plan import Action
from ansible_collections.platter.qemu.plugins.module_utils._keeper import actions
from ansible_collections.platter.qemu.plugins.module_utils._keeper.spec import KeeperSpec, Parts
from ansible_collections.platter.qemu.plugins.module_utils._keeper.state import KeeperState

Plan = t.List[Action[KeeperState]]


def plan_keeper(spec: KeeperSpec, state: KeeperState, wanted: t.Optional[Parts]) -> Plan:
    """The steps to what C(spec) asks. C(wanted): what it is to consist of; None where it is to go.

    What runs goes on until others are written: a task that is killed in between would leave the array without a keeper.
    """
    plan: Plan = []
    if wanted is None or state.supervisor != spec.supervisor:
        if state.running:
            plan.append(actions.EndKeeper(spec.name))
        if state.parts is not None:
            plan.append(actions.RemoveKeeper(spec.name))
    if wanted is None:
        return plan
    is_right = state.parts == wanted and state.supervisor == spec.supervisor
    is_right = is_right and state.enabled == (spec.supervisor == "systemd")
    if not is_right:
        plan.append(actions.WriteKeeper(spec.name, wanted, spec.supervisor))
    if not (is_right and state.running and not state.outdated):
        plan.append(actions.StartKeeper(spec.name))
    return plan
