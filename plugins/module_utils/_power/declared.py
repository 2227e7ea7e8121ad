# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What is declared on this host of the process of a VM: as a unit of systemd, or in a file for a supervisor of ours."""

from __future__ import annotations

import os
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import unit_text
from ansible_collections.platter.qemu.plugins.module_utils._power import definition, places, unit
from ansible_collections.platter.qemu.plugins.module_utils._power.definition import Declared
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_places


def read(vm: str) -> t.Optional[Declared]:
    """None for nothing. What cannot be read as ours has no command line. Where a run was killed while it changed one kind for
    the other there are both: then it is as no task asks for.
    """
    said = [each for each in (in_unit(vm), in_file(vm)) if each]
    return replace(said[0], text="".join(each.text for each in said)) if said else None


def in_unit(vm: str) -> t.Optional[Declared]:
    """In its unit. A mask is a link, and no definition."""
    path = unit_text.unit_file(unit.unit_name(vm))
    text = own_places.read(path)
    return None if text is None else unit.parse(text) or Declared((), {"unreadable": path}, text)


def in_file(vm: str) -> t.Optional[Declared]:
    """In the file for a supervisor of ours. A directory without it is what a killed run has left."""
    path = places.definition_file(vm)
    text = own_places.read(path)
    if text is None:
        return Declared((), {"unreadable": path}) if os.path.isdir(places.directory_of(vm)) else None
    return definition.parse(text) or Declared((), {"unreadable": path}, text)


def at_boot(vm: str) -> bool:
    """Whether systemd starts the unit with the host."""
    return os.path.lexists(unit_text.wants_link(unit.unit_name(vm)))
