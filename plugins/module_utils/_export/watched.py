# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The processes that serve an export, and those of ours that watch over them."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import unit_text
from ansible_collections.platter.qemu.plugins.module_utils._export import declared, places, state, unit
from ansible_collections.platter.qemu.plugins.module_utils._tools import processes, systemd

#: it is in the unit of a storage daemon for a moment after its start
_LOADER = places.program_file("load_exports.py", "systemd")

Table = t.Mapping[int, t.Tuple[str, ...]]


class Watch(t.NamedTuple):
    """The processes of one export: those that serve it, and those of ours that watch over them."""

    servers: t.Tuple[int, ...]
    supervisors: t.Tuple[int, ...]

    @property
    def all(self) -> t.Tuple[int, ...]:
        """Every one of them."""
        return (*self.supervisors, *self.servers)


def services(table: Table) -> t.Dict[int, str]:
    """The service of each process, where there are any."""
    return {pid: systemd.unit_of(pid) for pid in table} if systemd.runs() else {}


def find(name: str, made: t.Optional[state.Definition], table: Table, service_of: t.Mapping[int, str]) -> Watch:
    """The processes of the export C(name) among C(table)."""
    mark = (places.program_file(), places.export_directory(name))
    supervisors = tuple(pid for pid, words in table.items() if mark in zip(words, words[1:]))
    argv, own = made.argv if made else (), unit.unit_name(name)
    servers = {pid for pid, words in table.items() if pid not in supervisors and words == argv}
    # the shells of a unit, which get its server ready, are children of systemd as well
    in_unit = [pid for pid, service in service_of.items() if service == own and processes.parent_of(pid) == 1]
    servers.update(pid for pid in in_unit if table[pid][0] != unit_text.SHELL and _LOADER not in table[pid])
    if supervisors and not servers:
        servers = {pid for pid in table if pid not in supervisors and processes.parent_of(pid) in supervisors}
    return Watch(tuple(sorted(servers)), supervisors)


def whose(pid: int, table: Table, service_of: t.Mapping[int, str]) -> str:
    """The export that a process serves, or the storage daemon that it is (C(places.host_name)); empty for none of ours."""
    words = table.get(processes.parent_of(pid), ())
    directory = next((each for program, each in zip(words, words[1:]) if program == places.program_file()), "")
    return os.path.basename(directory) or unit.name_in(service_of.get(pid, ""))


def now(name: str) -> Watch:
    """The processes of one export, just now."""
    table = processes.own_processes()
    return find(name, declared.read(name), table, services(table))
