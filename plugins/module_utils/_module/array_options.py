# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The options of C(md_array)."""

from __future__ import annotations

import typing as t

ArgumentSpec = t.Dict[str, t.Dict[str, t.Any]]


def argument_spec() -> ArgumentSpec:
    """The argument spec of C(md_array)."""
    return {
        "name": {"type": "str", "required": True},
        "uuid": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "level": {"type": "str", "choices": ["raid1", "raid5", "raid10"], "default": "raid1"},
        "legs": {"type": "list", "elements": "dict", "options": _leg()},
        "consistency_policy": {"type": "str", "choices": ["bitmap", "ppl"], "default": "bitmap"},
        "start_degraded": {"type": "bool", "default": False},
        "fill": {"type": "list", "elements": "str"},
        "timeout": {"type": "int", "default": 60},
        "lock_timeout": {"type": "int", "default": 30},
    }


def _leg() -> ArgumentSpec:
    return {
        "name": {"type": "str"},
        "device": {"type": "path"},
        "source": {"type": "str"},
        "server": {"type": "str"},
    }
