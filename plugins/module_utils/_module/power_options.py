# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The options of the process of one VM: the same at the top of C(qemu_vm) and in its list C(vms)."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._module import task_options

ArgumentSpec = t.Dict[str, t.Dict[str, t.Any]]

#: what an unset option of the module means; an entry of the list that leaves it unset takes the module's value
DEFAULTS: t.Mapping[str, t.Any] = {
    "state": "started",
    "supervisor": "auto",
    "start_timeout": 30,
    "stop_timeout": 120,
    "allow_power_off": False,
}


def power_options() -> ArgumentSpec:
    """The options of one VM, without defaults."""
    return {
        "vm": {"type": "str"},
        "config": {"type": "path"},
        "state": {"type": "str", "choices": ["started", "stopped", "absent"]},
        "qmp_socket": {"type": "path"},
        "supervisor": {"type": "str", "choices": ["auto", "systemd", "process"]},
        "start_timeout": {"type": "int"},
        "stop_timeout": {"type": "int"},
        "allow_power_off": {"type": "bool"},
    }


def argument_spec() -> ArgumentSpec:
    """The argument spec of C(qemu_vm)."""
    top = power_options()
    for name, value in DEFAULTS.items():
        top[name]["default"] = value
    return {
        **top,
        "vms": {"type": "list", "elements": "dict", "options": power_options()},
        **task_options.task_options(),
    }


def items(params: t.Mapping[str, t.Any]) -> t.List[t.Dict[str, t.Any]]:
    """The options of each VM of a task: of the one it names, or of each in its list, filled up from the task."""
    return task_options.listed(params, "vms", power_options(), ("vm", "config", "qmp_socket"))
