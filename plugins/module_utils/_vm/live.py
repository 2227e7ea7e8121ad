# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The running VM behind a definition: looked at, and made to match, over QMP. How is in C(_live)."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import DrivesSpec
from ansible_collections.platter.qemu.plugins.module_utils._live import buses, observe, plan
from ansible_collections.platter.qemu.plugins.module_utils._live.state import LiveState
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp
from ansible_collections.platter.qemu.plugins.module_utils._vm import definition, fixed, restart

#: seconds in which a monitor has to greet
_GREETING_SECONDS = 10.0


class Looked(t.NamedTuple):
    """C(pids): of the QEMU, and of who else holds its monitor, where they were asked for or there is something to do.
    C(commands): what it was asked. C(name): its own.
    """

    state: LiveState
    plan: plan.LivePlan
    pids: t.FrozenSet[int]
    commands: t.List[t.List[str]]
    name: str = ""


def look(
    path: str,
    wanted: DrivesSpec,
    purge: bool = False,
    absent: t.Collection[str] = (),
    *,
    names: t.Collection[str] = (),
    pids: bool = False,
) -> t.Optional[Looked]:
    """The VM whose monitor is at C(path), and what makes it as C(wanted); None where no VM runs. C(pids): they are wanted.

    C(names): what it may be called; empty for anything. Raises RefusedError (other_vm, qmp_unreachable, qmp_timeout).
    """
    try:
        session = Qmp.connect(path, _GREETING_SECONDS)
    except errors.QmpConnectError as exc:
        if isinstance(exc.__cause__, (FileNotFoundError, ConnectionRefusedError)):
            return None
        raise no_monitor(path, exc) from exc
    with session as qmp:
        called = _refuse_other(qmp, names)
        state = observe.observe(qmp, wanted)
        planned = plan.plan(wanted, state, purge, absent)
        known = qmp.peer_pids() if pids or planned.steps else frozenset()
        return Looked(state, planned, known, qmp.commands, called)


def _refuse_other(qmp: Qmp, names: t.Collection[str]) -> str:
    """Another VM's monitor: its disks would be changed for those of this one. Returns what it is called."""
    called = str(qmp.execute("query-name").get("name", ""))
    if called and names and called not in names:
        raise other_vm(qmp.path, called)
    return called


def other_vm(path: str, called: str) -> errors.RefusedError:
    """The refusal of another VM, C(called) so, or nothing."""
    fact = "is VM %s" % called if called else "has no name, and no image of this VM open"
    return errors.RefusedError(
        "changing",
        "the running VM",
        "the QEMU at %s %s" % (path, fact),
        reason="other_vm",
        way_out="Correct qmp_socket or vm.",
        evidence={"socket": path, "vm": called},
        joined="",
    )


def no_monitor(path: str, exc: errors.QmpConnectError) -> errors.RefusedError:
    """Somebody is at the socket, and does not greet as QEMU does."""
    way_out = "Set qmp_socket to the QMP socket of the VM; that of an NBD server or a guest agent is none."
    if exc.reason == "qmp_timeout":
        way_out = "End its other client, or give the VM a second QMP socket. " + way_out
    return errors.RefusedError(
        "looking at",
        "the running VM",
        exc.message,
        reason=exc.reason,
        way_out=way_out,
        evidence={"socket": path},
        joined="",
    )


def silent(path: str, vm: str, pids: t.Iterable[int]) -> errors.RefusedError:
    """Nobody is at the socket of a VM that runs: what it has would be taken for nothing."""
    found = sorted(pids)
    fact = "nobody is at %s, and VM %s runs (process %s)" % (path, vm, ", ".join(map(str, found)))
    return errors.RefusedError(
        "changing",
        "the running VM",
        fact,
        reason="qmp_unreachable",
        way_out="Set qmp_socket to that of the VM; without it, what is defined counts from the next start on.",
        evidence={"socket": path, "pids": found},
        joined="",
    )


def to_facts(path: str, looked: t.Optional[Looked], defined: definition.VmDefinition) -> t.Dict[str, t.Any]:
    """As results show it: what was not as it is defined, when it was looked at."""
    if looked is None:
        return {"qmp_socket": path, "running": False}
    whole = [*restart.needed(looked.state, defined), *fixed.needed(defined.spec, looked.state.words)]
    waiting = [{"drive": None, "what": what, "why": why} for what, why in whole]
    waiting += [each._asdict() for each in looked.plan.needs_restart]
    return {
        "qmp_socket": path,
        "running": True,
        "drift": [each._asdict() for each in looked.plan.drift],
        "needs_restart": waiting,
        "undeclared": _undeclared(looked, defined),
    }


def open_already(
    looked: Looked, old: t.Optional[definition.VmDefinition], new: definition.VmDefinition
) -> t.Dict[str, int]:
    """Bytes of the drives that C(old) has as C(new) has them, and that the running VM has open just so."""
    if old is None or any(getattr(old, name) != getattr(new, name) for name in ("qemu", "machine", "style", "lossy")):
        return {}
    if old.spec.nodes != new.spec.nodes or any(each not in new.spec.objects for each in old.spec.objects):
        return {}
    other = {each.drive for each in looked.plan.drift} | {each.drive for each in looked.plan.needs_restart}
    media = {name: each.medium for name, each in buses.matched(new.spec, looked.state).items()}
    same = (each.id for each in new.spec.drives if each in old.spec.drives and each.id not in other)
    return {name: medium.size for name in same for medium in [media.get(name)] if medium is not None and medium.size}


def _undeclared(looked: Looked, defined: definition.VmDefinition) -> t.List[str]:
    """Drives and controllers that it has, that are not defined, and stay; without the empty drives that the machine has by
    itself.
    """
    known = {live.id for live in buses.matched(defined.spec, looked.state).values()}
    going = {each.drive for each in looked.plan.drift if each.declared is None and each.what == "drive"}
    found = (each for each in looked.state.drives if not buses.is_unnamed(each))
    controllers = {each.id for each in defined.spec.controllers}.union(definition.devices_in(defined.arguments))
    left = [each.id for each in looked.state.controllers if each.id not in controllers]
    return [each.id for each in found if each.id not in known | going] + left


def drives_of(state: LiveState) -> t.List[t.Dict[str, t.Any]]:
    """The drives of a running VM as diffs show them."""
    return [
        {"id": each.id, "device": each.device or None, "file": each.medium.file if each.medium is not None else None}
        for each in state.drives
    ]


def change(
    path: str,
    steps: t.Sequence[t.Any],
    seconds: float,
    done: t.Callable[[t.Any], None],
    names: t.Collection[str],
) -> t.List[t.List[str]]:
    """Carry out steps of a plan. C(done) is told of each. Returns what QEMU was told. C(names): as for C(look)."""
    from ansible_collections.platter.qemu.plugins.module_utils._live import execute

    with Qmp.connect(path, _GREETING_SECONDS) as qmp:
        _refuse_other(qmp, names)
        execute.execute(qmp, steps, seconds, done)
        return qmp.commands
