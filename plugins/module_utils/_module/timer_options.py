# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The options of C(snapshot_timer)."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._module import snapshot_options

ArgumentSpec = t.Dict[str, t.Dict[str, t.Any]]
#: of one image's snapshots, those that make sense again and again, with nobody there
_AGAIN = (
    *("name", "kind", "qmp_socket", "agent_socket", "quiesce", "relative", "match", "retention"),
    *("overlay_directories", "on_in_use", "wait_timeout", "job_timeout"),
)


def argument_spec() -> ArgumentSpec:
    """The argument spec of C(snapshot_timer)."""
    return {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "on_calendar": {"type": "str"},
        "randomized_delay": {"type": "int", "default": 0},
        "snapshots": {"type": "list", "elements": "dict", "options": _entry()},
        "lock_timeout": {"type": "int", "default": 30},
    }


def _entry() -> ArgumentSpec:
    known = snapshot_options.snapshot_options()
    return {
        "image": {"type": "path", "required": True},
        "format": dict(known["format"], required=True),
        "state": {"type": "str", "choices": ["present", "pruned"], "default": "present"},
        "switch": {"type": "str", "choices": ["symlink", "rename"]},
        **{name: known[name] for name in _AGAIN},
    }
