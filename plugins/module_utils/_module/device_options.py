# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The options of one block device: the same at the top of C(host_device) and in its list C(devices)."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._formats import registry
from ansible_collections.platter.qemu.plugins.module_utils._module import task_options

ArgumentSpec = t.Dict[str, t.Dict[str, t.Any]]

#: what an unset option of the module means; an entry of the list that leaves it unset takes the module's value
DEFAULTS: t.Mapping[str, t.Any] = {
    "state": "present",
    "device": "auto",
    "read_only": True,
    "direct_io": False,
    "timeout": 30,
    "io_timeout": 0,
}


def device_options() -> ArgumentSpec:
    """The options of one device, without defaults."""
    return {
        "name": {"type": "str"},
        "source": {"type": "str", "aliases": ["image"]},
        "format": {"type": "str", "choices": list(registry.FORMAT_NAMES)},
        "state": {"type": "str", "choices": ["present", "absent"]},
        "device": {"type": "str"},
        "read_only": {"type": "bool"},
        "offset": {"type": "str"},
        "size": {"type": "str"},
        "sector_size": {"type": "int", "choices": [512, 1024, 2048, 4096]},
        "direct_io": {"type": "bool"},
        "identity": {"type": "dict", "options": _identity()},
        "tls_certificates": {"type": "path"},
        "tls_hostname": {"type": "str"},
        "tls_psk_file": {"type": "path"},
        "tls_username": {"type": "str"},
        "overlay_directories": {"type": "list", "elements": "path"},
        "timeout": {"type": "int"},
        "io_timeout": {"type": "int"},
    }


def _identity() -> ArgumentSpec:
    return {
        "size": {"type": "str"},
        "uuid": {"type": "str"},
        "signature": {"type": "list", "elements": "str"},
    }


def argument_spec() -> ArgumentSpec:
    """The argument spec of C(host_device)."""
    top = device_options()
    for name, value in DEFAULTS.items():
        top[name]["default"] = value
    return {
        **top,
        "devices": {"type": "list", "elements": "dict", "options": device_options()},
        **task_options.task_options(),
    }


def items(params: t.Mapping[str, t.Any]) -> t.List[t.Dict[str, t.Any]]:
    """The options of each device of a task: of the one it names, or of each in its list, filled up from the task."""
    return task_options.listed(params, "devices", device_options(), ("name", "source"))
