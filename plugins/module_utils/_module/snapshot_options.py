# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The options of one image's snapshots: the same at the top of C(image_snapshot) and in its list C(snapshots)."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._formats import registry
from ansible_collections.platter.qemu.plugins.module_utils._module import secret_files, task_options

ArgumentSpec = t.Dict[str, t.Dict[str, t.Any]]

#: what an unset option of the module means; an entry of the list that leaves it unset takes the module's value
DEFAULTS: t.Mapping[str, t.Any] = {
    "kind": "internal",
    "state": "present",
    "quiesce": "no",
    "memory": False,
    "relative": False,
    "save": True,
    "allow_altered": False,
    "match": "*",
    "on_in_use": "fail",
    "wait_timeout": 60,
    "job_timeout": 3600,
}
_RULES = ("keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly")


def snapshot_options() -> ArgumentSpec:
    """The options of one image's snapshots, without defaults."""
    return {
        "image": {"type": "path", "aliases": ["path"]},
        "format": {"type": "str", "choices": list(registry.FORMAT_NAMES)},
        "name": {"type": "str"},
        "kind": {"type": "str", "choices": ["internal", "external"]},
        "state": {
            "type": "str",
            "choices": ["present", "absent", "reverted", "committed", "streamed", "pruned"],
        },
        "qmp_socket": {"type": "path"},
        "agent_socket": {"type": "path"},
        "quiesce": {"type": "str", "choices": ["no", "try", "required"]},
        "memory": {"type": "bool"},
        "overlay": {"type": "path"},
        "relative": {"type": "bool"},
        "switch": {"type": "str", "choices": ["none", "symlink", "rename"]},
        "save": {"type": "bool"},
        "save_as": {"type": "str"},
        "allow_altered": {"type": "bool"},
        "match": {"type": "str"},
        "retention": {"type": "dict", "options": _retention()},
        "bitmaps": {"type": "list", "elements": "dict", "options": _bitmap()},
        "encryption": {"type": "dict", "options": secret_files.secret_options()},
        **task_options.use_options(),
        "job_timeout": {"type": "int"},
    }


def _retention() -> ArgumentSpec:
    rules: ArgumentSpec = {name: {"type": "int"} for name in _RULES}
    return {**rules, "max_age": {"type": "str"}, "max_depth": {"type": "int"}}


def _bitmap() -> ArgumentSpec:
    return {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "enabled": {"type": "bool"},
        "granularity": {"type": "str"},
        "sources": {"type": "list", "elements": "str"},
    }


def argument_spec() -> ArgumentSpec:
    """The argument spec of C(image_snapshot)."""
    top = snapshot_options()
    for name, value in DEFAULTS.items():
        top[name]["default"] = value
    return {
        **top,
        "snapshots": {"type": "list", "elements": "dict", "options": snapshot_options()},
        **task_options.task_options(),
    }


def items(params: t.Mapping[str, t.Any]) -> t.List[t.Dict[str, t.Any]]:
    """The options of each image of a task: of the one it names, or of each in its list, filled up from the task."""
    return task_options.listed(params, "snapshots", snapshot_options(), ("image",))
