# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Where the definitions of this host's VMs are, and by which links they are found."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._inspect import vm_definitions
from ansible_collections.platter.qemu.plugins.module_utils._vm import definition

CURRENT = vm_definitions.CURRENT
#: a generation is a directory: of the definition with all that is made of it
GENERATION = ".generation-"


def registry() -> str:
    """A directory with a link for each VM, to where its definition is."""
    return vm_definitions.registry()


def record(vm: str) -> str:
    """The link of a VM."""
    return os.path.join(registry(), vm)


def current_file(config: str, name: str) -> str:
    """A file of the definition that counts."""
    return os.path.join(config, CURRENT, name)


def links(config: str) -> t.Dict[str, str]:
    """The names by which users know the files, and where they lead."""
    names = (definition.DEFINITION, definition.ARGS, definition.START)
    return {os.path.join(config, name): os.path.join(CURRENT, name) for name in names}


def known(config: str) -> t.List[str]:
    """The directories of all definitions: those beside C(config), and those that are recorded."""
    beside = os.path.dirname(config)
    found = [os.path.join(beside, name) for name in _names(beside)]
    found += [os.path.join(registry(), name) for name in _names(registry())]
    return list(dict.fromkeys(os.path.realpath(each) for each in found if os.path.lexists(os.path.join(each, CURRENT))))


def _names(directory: str) -> t.List[str]:
    try:
        return sorted(name for name in os.listdir(directory) if not name.startswith("."))
    except OSError:
        return []
