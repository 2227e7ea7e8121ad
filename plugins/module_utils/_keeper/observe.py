# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Reads what is so of a keeper: its files, and whether it runs. Read-only."""

from __future__ import annotations

import json
import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import unit_text
from ansible_collections.platter.qemu.plugins.module_utils._keeper import places, unit
from ansible_collections.platter.qemu.plugins.module_utils._keeper.spec import KeeperSpec
from ansible_collections.platter.qemu.plugins.module_utils._service.state import Parts, ServiceState
from ansible_collections.platter.qemu.plugins.module_utils._tools import (
    own_places,
    own_programs,
    own_zipapp,
    process,
    processes,
    supervise,
    systemd,
)

#: of the digest that tells a process which of its programs and settings it was started with
_VERSION_LETTERS = 16


def wanted(spec: KeeperSpec, built: bytes) -> Parts:
    """What it is to consist of. C(built): its program."""
    version = own_zipapp.digest_of(built + spec.settings.encode())[:_VERSION_LETTERS]
    argv = [*own_programs.words(places.program_file(spec.name)), places.settings_file(spec.name), version]
    by_unit = spec.supervisor == "systemd"
    definition = unit.render(spec.name, argv) if by_unit else json.dumps({"argv": argv, "options": {}}) + "\n"
    return Parts(spec.settings, own_zipapp.digest_of(built), (definition,))


def supervisor_source() -> bytes:
    """The text of our own supervisor."""
    return own_programs.text_of(supervise).encode()


def observe(name: str, run: process.RunCommand) -> ServiceState:
    """The state of one keeper."""
    own = unit.unit_name(name)
    by_unit = os.path.lexists(unit_text.unit_file(own))
    if not by_unit and not os.path.isdir(places.directory(name)):
        return ServiceState(name, running=bool(processes_of(name)))
    path = unit_text.unit_file(own) if by_unit else os.path.join(places.directory(name), places.DEFINITION)
    program, declared = own_places.read_bytes(places.program_file(name)), _text(path)
    # its last word is its version (wanted())
    outdated = any(argv[-1] not in declared for argv in keepers(name).values())
    if not by_unit and own_places.read_bytes(places.supervisor_file(name)) != supervisor_source():
        declared = ""
    parts = Parts(_text(places.settings_file(name)), own_zipapp.digest_of(program), (declared,))
    if by_unit:
        told = systemd.show(run, [own])[own] if systemd.runs() else {}
        running = told.get("ActiveState") in ("active", "activating")
        return ServiceState(name, "systemd", parts, os.path.lexists(unit_text.wants_link(own)), running, outdated)
    running, alone = bool(processes_of(name)), not supervisors(name)
    return ServiceState(name, "process", parts, False, running, running and (outdated or alone))


def processes_of(name: str) -> t.List[int]:
    """The processes of one that a supervisor of ours runs: that, and itself, which may have lost it."""
    return [*supervisors(name), *keepers(name)]


def supervisors(name: str) -> t.List[int]:
    """The processes that keep it running."""
    return sorted(_started_with(places.supervisor_file(name), places.directory(name)))


def keepers(name: str) -> t.Dict[int, t.Tuple[str, ...]]:
    """Itself, by its number, with its command line."""
    return _started_with(places.program_file(name), places.settings_file(name))


def _started_with(program: str, told: str) -> t.Dict[int, t.Tuple[str, ...]]:
    table = processes.own_processes()
    return {pid: argv for pid, argv in table.items() if (program, told) in zip(argv, argv[1:])}


def _text(path: str) -> str:
    return own_places.read_bytes(path).decode("utf-8", "replace")
