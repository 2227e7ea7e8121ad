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
from ansible_collections.platter.qemu.plugins.module_utils._keeper.spec import KeeperSpec, Parts
from ansible_collections.platter.qemu.plugins.module_utils._keeper.state import KeeperState
from ansible_collections.platter.qemu.plugins.module_utils._tools import (
    own_places,
    own_programs,
    own_zipapp,
    process,
    processes,
    supervise,
    systemd,
)


def wanted(spec: KeeperSpec, built: bytes) -> Parts:
    """What it is to consist of. C(built): its program."""
    return Parts(spec.settings, own_zipapp.digest_of(built), definition(spec.name, spec.supervisor))


def definition(name: str, supervisor: str) -> str:
    """What declares it to its supervisor; and the supervisor itself, where that is ours."""
    argv = [*own_programs.words(places.program_file(name)), places.settings_file(name)]
    if supervisor == "systemd":
        return unit.render(name, argv)
    return json.dumps({"argv": argv, "options": {}}) + "\n"


def supervisor_source() -> bytes:
    """The text of our own supervisor."""
    return own_programs.text_of(supervise).encode()


def observe(spec: KeeperSpec, run: process.RunCommand) -> KeeperState:
    """The state of one keeper."""
    name, own = spec.name, unit.unit_name(spec.name)
    by_unit = os.path.lexists(unit_text.unit_file(own))
    if not by_unit and not os.path.isdir(places.directory(name)):
        return KeeperState(name, running=bool(supervisors(name)))
    declared = unit_text.unit_file(own) if by_unit else os.path.join(places.directory(name), places.DEFINITION)
    parts = Parts(
        _text(places.settings_file(name)),
        own_zipapp.digest_of(own_places.read_bytes(places.program_file(name))),
        _text(declared)
        if by_unit or own_places.read_bytes(places.supervisor_file(name)) == supervisor_source()
        else "",
    )
    if by_unit:
        told = systemd.show(run, [own])[own] if systemd.runs() else {}
        enabled = os.path.lexists(unit_text.wants_link(own))
        return KeeperState(name, "systemd", parts, enabled, told.get("ActiveState") in ("active", "activating"))
    return KeeperState(name, "process", parts, False, bool(supervisors(name)))


def supervisors(name: str) -> t.List[int]:
    """The processes that keep it running."""
    words = (places.supervisor_file(name), places.directory(name))
    table = processes.own_processes()
    return sorted(pid for pid, argv in table.items() if words in zip(argv, argv[1:]))


def _text(path: str) -> str:
    return own_places.read_bytes(path).decode("utf-8", "replace")
