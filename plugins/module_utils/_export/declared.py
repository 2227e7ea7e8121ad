# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What is declared on this host of an export: as a unit of systemd, or in a file for a supervisor of ours."""

from __future__ import annotations

import os
import stat
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._export import definition, places, unit
from ansible_collections.platter.qemu.plugins.module_utils._export.state import Definition

_LARGEST = 1 << 20


def read(name: str) -> t.Optional[Definition]:
    """None for nothing. What cannot be read as a definition of ours has no command line. Where a run was killed while
    it changed one kind for the other there are both: then it is as no task asks for.
    """
    unit_says, file_says = in_unit(name), in_file(name)
    if unit_says and file_says:
        return replace(unit_says, text=unit_says.text + file_says.text)
    return unit_says or file_says


def in_unit(name: str) -> t.Optional[Definition]:
    """In the unit of an export. A mask is a link, and no definition."""
    path = unit.unit_file(name)
    text = _text(path)
    return None if text is None else unit.parse(text) or Definition((), {"unreadable": path}, text)


def at_boot(name: str) -> bool:
    """Whether systemd starts the unit with the host."""
    return os.path.lexists(unit.wants_link(name))


def in_file(name: str) -> t.Optional[Definition]:
    """In the file for a supervisor of ours."""
    text = _text(places.definition_file(name))
    return None if text is None else definition.parse(text) or Definition((), {"unreadable": True}, text)


def _text(path: str) -> t.Optional[str]:
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read(_LARGEST)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise errors.EngineError("%s cannot be read: %s" % (exc.filename, exc.strerror)) from exc
