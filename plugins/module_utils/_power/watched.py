# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The processes of a VM, and those of ours that watch over them."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import unit_text
from ansible_collections.platter.qemu.plugins.module_utils._power import declared, monitor, places, unit
from ansible_collections.platter.qemu.plugins.module_utils._tools import processes, systemd
from ansible_collections.platter.qemu.plugins.module_utils._vm import running

Table = t.Mapping[int, t.Tuple[str, ...]]


class Watch(t.NamedTuple):
    """C(servers): its QEMU, as far as we have started it; C(supervisors): what of ours watches over it; C(foreign): others of
    its name. C(supervisor): what starts it again when it fails, C(process) or C(systemd); empty for nothing.
    """

    servers: t.Tuple[int, ...] = ()
    supervisors: t.Tuple[int, ...] = ()
    foreign: t.Tuple[int, ...] = ()
    supervisor: str = ""


def services(table: Table) -> t.Dict[int, str]:
    """The service of each process, where there are any."""
    return {pid: systemd.unit_of(pid) for pid in table} if systemd.runs() else {}


def find(vm: str, called: str, table: Table, service_of: t.Mapping[int, str]) -> Watch:
    """The processes of a VM, which QEMU calls C(called), among C(table)."""
    mark = (places.program_file(), places.directory_of(vm))
    supervisors = tuple(pid for pid, words in table.items() if mark in zip(words, words[1:]))
    own = {pid for pid in table if processes.parent_of(pid) in supervisors} | _taken_over(supervisors, table, mark[1])
    own -= set(supervisors)
    in_unit = {pid for pid, service in service_of.items() if service == unit.unit_name(vm) and _is_main(pid, table)}
    lost = _lost(vm, table)
    named = running.processes_of((called,)) | lost
    # QEMU itself, just before it becomes another program
    others = {pid for pid in named - own - in_unit if processes.parent_of(pid) not in named}
    left = others & lost
    kind = "process" if own else "systemd" if in_unit else ""
    return Watch(tuple(sorted(own | in_unit | left)), supervisors, tuple(sorted(others - left)), kind)


def _taken_over(supervisors: t.Iterable[int], table: Table, directory: str) -> t.Set[int]:
    """What supervisors watch over that is not their child: it is in their arguments."""
    words = [table[pid][table[pid].index(directory) + 1 :] for pid in supervisors]
    return {int(each[0]) for each in words if each and each[0].isdigit() and int(each[0]) in table}


def _is_main(pid: int, table: Table) -> bool:
    """Whether systemd has started it as what the unit is for: the shells and programs before and after are its children too."""
    words = table.get(pid, ())
    before = words[:2] == (unit_text.SHELL, "-c") or places.program_file("power_down.py", "systemd") in words
    return processes.parent_of(pid) == 1 and not before


def _lost(vm: str, table: Table) -> t.Set[int]:
    """The QEMUs that have their monitor where the VM is declared to have it, whatever they are called (C(-name) can be among
    the arguments): a VM that has lost its supervisor. One that is another VM's is not.
    """
    made = declared.in_file(vm)
    socket = str(made.options.get("socket", "")) if made else ""
    if not socket:
        return set()
    there = {pid: words for pid, words in table.items() if socket in monitor.sockets(words) and running.is_vm(pid)}
    return {pid for pid, words in there.items() if not _is_anothers(vm, pid, words, table)}


def _is_anothers(vm: str, pid: int, words: t.Sequence[str], table: Table) -> bool:
    """Whether another VM of ours has the name, or a supervisor of another one watches over it."""
    name = running.name_of(words)
    watched = places.program_file() in table.get(processes.parent_of(pid), ())
    return name != vm and (watched or (bool(name) and declared.in_file(name) is not None))


def now(vm: str, called: str) -> Watch:
    """Those of one VM, just now."""
    table = processes.own_processes()
    return find(vm, called, table, services(table))
