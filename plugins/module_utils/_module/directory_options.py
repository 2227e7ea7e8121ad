# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The options of a directory, at the top of a task or in its list."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._module.task_options import ArgumentSpec, listed

NAMES = ("path", "owner", "group", "mode", "setype")


def argument_spec() -> ArgumentSpec:
    """All options; the module documents them."""
    entry = dict(_options(), path={"type": "path", "required": True})
    several = {"type": "list", "elements": "dict", "options": entry}
    return dict(_options(), directories=several, lock_timeout={"type": "int", "default": 30})


def _options() -> ArgumentSpec:
    return {
        "path": {"type": "path"},
        "owner": {"type": "str"},
        "group": {"type": "str"},
        "mode": {"type": "raw"},
        "setype": {"type": "str"},
    }


def entries(params: t.Mapping[str, t.Any]) -> t.List[t.Dict[str, t.Any]]:
    """The options of each directory."""
    return listed(params, "directories", NAMES, NAMES)
