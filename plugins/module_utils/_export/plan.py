# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""From what is so to what is asked of one export. Pure; what must not be done is refused here."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.plan import Action
from ansible_collections.platter.qemu.plugins.module_utils._export import actions, difference, refuse
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec
from ansible_collections.platter.qemu.plugins.module_utils._export.state import Definition, ExportReading, ExportState

Plan = t.List[Action[ExportState]]


def plan_export(
    spec: ExportSpec, state: ExportState, reading: ExportReading, wanted: t.Optional[Definition], why: str = ""
) -> Plan:
    """The steps to what C(spec) asks. C(wanted): its definition; None where it is stopped or absent. C(why): why it
    is served by this server.
    """
    if wanted is not None:
        return _plan_present(spec, state, reading, wanted, why)
    refuse.refuse_foreign_unit(spec, state)
    stays = spec.state == "stopped" and state.at_boot
    plan: Plan = [_stop(spec, state, reading)] if state.running or reading.watched or stays else []
    if spec.state == "absent" and state.definition is not None:
        plan.append(actions.RemoveDefinition(spec.name))
    return plan


def _plan_present(spec: ExportSpec, state: ExportState, reading: ExportReading, wanted: Definition, why: str) -> Plan:
    refuse.refuse_bad_image(spec, reading)
    refuse.refuse_bad_unit(spec, state, reading, wanted)
    refuse.refuse_other_daemon(spec, reading, wanted)
    same_server = state.argv == wanted.argv and state.reachable and _stays(state, wanted)
    if same_server and reading.silent:
        raise refuse.unresponsive(spec)
    plan: Plan = []
    if not same_server:
        refuse.refuse_bad_place(spec, reading)
        refuse.refuse_bad_secret(spec, reading)
        if state.running or reading.watched:
            plan.append(_stop(spec, state, reading, wanted))
    if state.definition != wanted:
        plan.append(actions.DeclareExport(spec.name, wanted, why))
    if not same_server:
        plan.append(actions.StartServer(spec.name, wanted))
    elif not state.supervised:
        plan.append(actions.SuperviseServer(spec.name, wanted.options["supervisor"], wanted.daemon))
    return plan


def _stays(state: ExportState, wanted: Definition) -> bool:
    """Whether the server was started as it is to be, and can go on under what is to watch over it: only we can take over
    one that runs.
    """
    supervisor = wanted.options["supervisor"]
    # what a launcher has opened shows in no command line
    if (state.definition.launcher if state.definition else ()) != wanted.launcher:
        return False
    return state.supervisor == supervisor or (supervisor == "process" and not state.supervisor)


def _stop(
    spec: ExportSpec, state: ExportState, reading: ExportReading, wanted: t.Optional[Definition] = None
) -> actions.StopServer:
    # which of a storage daemon's exports its clients use is known only to the daemon
    if reading.clients and not spec.allow_disconnect and not reading.daemon:
        raise refuse.busy(spec, state, reading, wanted)
    cost = refuse.may_lose(state) if reading.clients and spec.allow_disconnect else ""
    if reading.daemon:
        changes = difference.changes(state.definition, wanted)
        return actions.StopServer(spec.name, reading.clients, cost, daemon=reading.daemon, changes=changes)
    return actions.StopServer(spec.name, reading.clients, cost, in_unit=reading.unit.lively or state.at_boot)
