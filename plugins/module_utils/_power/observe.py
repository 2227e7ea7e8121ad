# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Reads what is so of the process of a VM: how it is declared, what runs, and what is defined. Read-only."""

from __future__ import annotations

import os
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import unit_text
from ansible_collections.platter.qemu.plugins.module_utils._power import (
    declared,
    definition,
    monitor,
    places,
    refuse,
    unit,
    watched,
)
from ansible_collections.platter.qemu.plugins.module_utils._power.spec import PowerSpec
from ansible_collections.platter.qemu.plugins.module_utils._power.state import PowerReading, PowerState
from ansible_collections.platter.qemu.plugins.module_utils._tools import (
    own_places,
    own_programs,
    process,
    processes,
    qemu_process,
    systemd,
    unix_peer,
    unix_sockets,
)
from ansible_collections.platter.qemu.plugins.module_utils._vm import places as vm_places
from ansible_collections.platter.qemu.plugins.module_utils._vm import running
from ansible_collections.platter.qemu.plugins.module_utils._vm.definition import DEFINITION, START, VmDefinition

#: seconds that the kernel gets to close the monitor of a QEMU that was killed
CLOSING_SECONDS = 1.0
#: states of a unit in which nothing is to come of it
_OVER = ("inactive", "failed")


class Ground(t.NamedTuple):
    """What is read once for all VMs of a look: the processes of this user, the services that they belong to, and what systemd
    says of the units of these VMs.
    """

    processes: watched.Table
    services: t.Mapping[int, str]
    units: t.Mapping[str, systemd.Properties] = {}


class Found(t.NamedTuple):
    """All of one VM. C(wanted): what is to be declared of it; None where it is not to run."""

    state: PowerState
    reading: PowerReading
    wanted: t.Optional[definition.Declared] = None


def ground(run: process.RunCommand, specs: t.Sequence[PowerSpec]) -> Ground:
    """As it is now. systemd is asked once, and only where it may have to do with one of the VMs."""
    table = processes.own_processes()
    now = Ground(table, watched.services(table))
    if not systemd.runs():
        return now
    busy = set(now.services.values())
    names = [unit.unit_name(spec.vm) for spec in specs]
    started = {
        unit.unit_name(spec.vm) for spec in specs if spec.state == "started" and _supervisor_of(spec) == "systemd"
    }
    known = [each for each in names if each in busy | started or os.path.lexists(unit_text.unit_file(each))]
    return now._replace(units=systemd.show(run, known))


def _supervisor_of(spec: PowerSpec) -> str:
    """What is to watch over a VM that is started now."""
    if spec.supervisor != "auto":
        return spec.supervisor
    return "systemd" if may_use_systemd() else "process"


def may_use_systemd() -> bool:
    """It runs, and lets us write units."""
    return systemd.runs() and os.geteuid() == 0


def observe(spec: PowerSpec, now: Ground) -> Found:
    """One VM. Raises RefusedError where what is to be started is not there, or not ours."""
    made = _defined(spec)
    called = running.name_of(["qemu", *made.general()]) if made else spec.vm
    state, reading = look(spec, now, called or spec.vm)
    if spec.state != "started":
        _refuse_unsafe_monitor(spec, state, reading)
        return Found(state, reading)
    if made is None or made.vm != spec.vm:
        reading = replace(reading, defined=made is not None, defined_as=made.vm if made else "")
        refuse.refuse_foreign(spec, reading)
        refuse.refuse_undefined(spec, replace(reading, elsewhere=_elsewhere(spec)))
    return _about_start(spec, Found(state, reading), t.cast(VmDefinition, made), now)


def look(spec: PowerSpec, now: Ground, called: str) -> t.Tuple[PowerState, PowerReading]:
    """How one VM is declared and whether it runs, whatever is defined. C(called): the name of its QEMU."""
    watch = watched.find(spec.vm, called, now.processes, now.services)
    told = now.units.get(unit.unit_name(spec.vm), {})
    lively = told.get("ActiveState", "inactive") not in _OVER
    state = PowerState(
        spec.vm, declared.read(spec.vm), bool(watch.servers), watch.supervisor, declared.at_boot(spec.vm)
    )
    reading = PowerReading(
        watch.servers,
        watch.foreign,
        tuple(tuple(qemu_process.arguments(pid)) for pid in watch.foreign),
        bool(watch.supervisors) or lively,
        told.get("LoadState", "not-found"),
    )
    return state, reading


def _defined(spec: PowerSpec) -> t.Optional[VmDefinition]:
    """What is defined; not looked at where it is not to be started, so that what cannot be read can be stopped."""
    if spec.state != "started":
        return None
    from ansible_collections.platter.qemu.plugins.module_utils._vm import store

    store.refuse_unsafe(spec.config)
    return store.read(spec.config)


def _refuse_unsafe_monitor(spec: PowerSpec, state: PowerState, reading: PowerReading) -> None:
    """Who is asked to power down must be who we take it for. Raises RefusedError."""
    path = str(state.declared.options.get("socket", "")) if state.declared else spec.qmp_socket
    if reading.pids and os.path.exists(path):
        unix_peer.refuse_unsafe_socket(path, os.stat(path), {0, os.geteuid()})


def _elsewhere(spec: PowerSpec) -> str:
    """Another directory that has its definition."""
    known = os.path.realpath(vm_places.record(spec.vm))
    return known if os.path.exists(vm_places.current_file(known, DEFINITION)) else ""


def _about_start(spec: PowerSpec, found: Found, made: VmDefinition, now: Ground) -> Found:
    general, drives = made.general(), made.drive_words()
    words = [*general, *drives]
    added = monitor.added(words, spec.qmp_socket)
    state, asked = found.state, _supervisor_of(spec)
    kind = (state.supervisor or "process") if state.running else asked
    if kind == "systemd" and not may_use_systemd():
        raise refuse.no_systemd(spec, os.geteuid() == 0)
    wanted = definition.define(spec, kind, os.path.join(spec.config, START), added)
    if kind == "systemd":
        asks = own_programs.words(places.program_file("power_down.py", "systemd"))
        wanted = unit.as_unit(wanted, asks, spec.stop_timeout)
    if state.running:
        other = spec.supervisor not in ("auto", kind)
        outdated = other or not _runs_with(now.processes[found.reading.pids[0]], [*general, *added, *drives])
        return Found(state, replace(found.reading, outdated=outdated), wanted)
    _refuse_images(made)
    unfit = "its arguments have -daemonize, and QEMU would leave what watches over it" if monitor.leaves(words) else ""
    reading = replace(found.reading, altered=_is_altered(spec, made), unfit=unfit)
    return Found(state, _about_socket(spec, reading), wanted)


def _refuse_images(made: VmDefinition) -> None:
    """Since they were defined they may have come to lead elsewhere, or the host have mounted one. Raises RefusedError."""
    from ansible_collections.platter.qemu.plugins.module_utils._vm import exclusive, held, led

    opened = held.of_definition(made)
    led.refuse(made, opened)
    exclusive.refuse_claimed_devices(made.vm, opened)


def _runs_with(words: t.Sequence[str], arguments: t.Sequence[str]) -> bool:
    """Whether a process was started with these arguments, be it by a loader or an interpreter."""
    own = list(running.own_words(words))
    before = own[: len(own) - len(arguments)]
    return own[len(before) :] == list(arguments) and not any(word.startswith("-") for word in before)


def _is_altered(spec: PowerSpec, made: VmDefinition) -> bool:
    from ansible_collections.platter.qemu.plugins.module_utils._vm import store

    return not store.starts_as_defined(spec.config, made)


def _about_socket(spec: PowerSpec, reading: PowerReading) -> PowerReading:
    directory = os.path.dirname(spec.qmp_socket)
    if directory == own_places.socket_directory() and not os.path.lexists(directory):
        return reading
    problem = own_places.shared_problem(directory)
    if problem or not os.path.lexists(spec.qmp_socket):
        return replace(reading, socket_problem=problem)
    if not unix_sockets.is_socket(spec.qmp_socket):  # QEMU would remove it, whatever it is
        fact = "there is something else than a socket at %s" % spec.qmp_socket
        return replace(reading, socket_problem=("socket_in_use", fact, "Set qmp_socket to another path."))
    # what comes back to life has it for itself
    taken = not reading.watched and unix_sockets.is_taken(spec.qmp_socket, CLOSING_SECONDS)
    return replace(reading, socket_taken=taken)
