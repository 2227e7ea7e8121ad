# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What is declared on this host of an export: as a unit of systemd, or in a file for a supervisor of ours."""

from __future__ import annotations

import os
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._export import definition, places, unit
from ansible_collections.platter.qemu.plugins.module_utils._export.state import Definition
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_places


def read(name: str) -> t.Optional[Definition]:
    """None for nothing. What cannot be read as a definition of ours has no command line. Where a run was killed while
    it changed one kind for the other there are both: then it is as no task asks for.
    """
    said = [each for each in (in_unit(name), in_file(name), in_daemon(name)) if each]
    return replace(said[0], text="".join(each.text for each in said)) if said else None


def in_unit(name: str) -> t.Optional[Definition]:
    """In the unit of an export. A mask is a link, and no definition."""
    path = unit.unit_file(name)
    text = own_places.read(path)
    return None if text is None else unit.parse(text) or Definition((), {"unreadable": path}, text)


def at_boot(name: str) -> bool:
    """Whether systemd starts the unit with the host."""
    return os.path.lexists(unit.wants_link(name))


def in_file(name: str) -> t.Optional[Definition]:
    """In the file for a supervisor of ours."""
    text = own_places.read(places.definition_file(name))
    return None if text is None else definition.parse(text) or Definition((), {"unreadable": True}, text)


class Place(t.NamedTuple):
    """Where an export of a storage daemon is declared. C(enabled): the daemon has it after a start."""

    daemon: str
    supervisor: str
    enabled: bool

    def path(self, name: str) -> str:
        """The file that says so of the export C(name)."""
        ending = ".json" if self.enabled else ".off"
        return os.path.join(places.declarations(self.daemon, self.supervisor), name + ending)


def place_in_daemon(name: str) -> t.Optional[Place]:
    """Where the export is declared, if a storage daemon has it."""
    for supervisor in ("systemd", "process"):
        for daemon in places.hosts(supervisor):
            for place in (Place(daemon, supervisor, True), Place(daemon, supervisor, False)):
                if os.path.exists(place.path(name)):
                    return place
    return None


def in_daemon(name: str) -> t.Optional[Definition]:
    """Among the exports of a storage daemon."""
    place = place_in_daemon(name)
    text = own_places.read(place.path(name)) if place else None
    if place is None or text is None:
        return None
    return definition.parse(text) or Definition((), {"unreadable": True, "daemon": place.daemon}, text)


def exports_of(daemon: str) -> t.Dict[str, bool]:
    """The exports that are declared for a storage daemon, and whether it has them after a start."""
    found: t.Dict[str, bool] = {}
    for supervisor in ("systemd", "process"):
        try:
            names = os.listdir(places.declarations(daemon, supervisor))
        except OSError:
            continue
        found.update({name[:-4]: False for name in names if name.endswith(".off")})
        found.update({name[:-5]: True for name in names if name.endswith(".json")})
    return found
