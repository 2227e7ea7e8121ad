# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The options of one NBD export: the same at the top of C(nbd_export) and in its list C(exports)."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._formats import registry
from ansible_collections.platter.qemu.plugins.module_utils._module import task_options

ArgumentSpec = t.Dict[str, t.Dict[str, t.Any]]

#: what an unset option of the module means; an entry of the list that leaves it unset takes the module's value
DEFAULTS: t.Mapping[str, t.Any] = {
    "state": "present",
    "read_only": True,
    "allocation_depth": False,
    "discard": False,
    "cache": "writeback",
    "shared": 16,
    "allow_disconnect": False,
    "stop_timeout": 60,
    "port": 10809,
    "insecure_plaintext": False,
    "supervisor": "auto",
    "server": "auto",
    "cow": False,
}


def export_options() -> ArgumentSpec:
    """The options of one export, without defaults."""
    return {
        "name": {"type": "str"},
        "image": {"type": "path", "aliases": ["path"]},
        "format": {"type": "str", "choices": list(registry.FORMAT_NAMES)},
        "state": {"type": "str", "choices": ["present", "stopped", "absent"]},
        "socket": {"type": "path"},
        "bind": {"type": "str"},
        "port": {"type": "int"},
        "tls": {"type": "dict", "options": _tls()},
        "insecure_plaintext": {"type": "bool"},
        "read_only": {"type": "bool"},
        "snapshot": {"type": "str"},
        "offset": {"type": "str"},
        "size": {"type": "str"},
        "bitmaps": {"type": "list", "elements": "str"},
        "allocation_depth": {"type": "bool"},
        "discard": {"type": "bool"},
        "cache": {"type": "str", "choices": ["writeback", "writethrough", "none", "directsync"]},
        "shared": {"type": "int"},
        "description": {"type": "str"},
        "allow_disconnect": {"type": "bool"},
        "overlay_directories": {"type": "list", "elements": "path"},
        "stop_timeout": {"type": "int"},
        "supervisor": {"type": "str", "choices": ["auto", "systemd", "process"]},
        "server": {"type": "str", "choices": ["auto", "qemu_nbd", "nbdkit", "storage_daemon"]},
        "daemon": {"type": "str"},
        "partition": {"type": "int"},
        "cow": {"type": "bool"},
        "throttle": {"type": "dict", "options": {"bps": {"type": "str"}, "iops": {"type": "int"}}},
        "delay": {"type": "dict", "options": {"read_ms": {"type": "int"}, "write_ms": {"type": "int"}}},
        "allow_from": {"type": "list", "elements": "str"},
        "encryption": {"type": "dict", "options": {"secret_file": {"type": "path", "no_log": False}}},
    }


def _tls() -> ArgumentSpec:
    return {
        "x509_dir": {"type": "path"},
        "authorized": {"type": "list", "elements": "str"},
        "psk_file": {"type": "path"},
        "any_client": {"type": "bool"},
    }


def argument_spec() -> ArgumentSpec:
    """The argument spec of C(nbd_export)."""
    top = export_options()
    for name, value in DEFAULTS.items():
        top[name]["default"] = value
    return {
        **top,
        "exports": {"type": "list", "elements": "dict", "options": export_options()},
        **task_options.task_options(),
    }


def items(params: t.Mapping[str, t.Any]) -> t.List[t.Dict[str, t.Any]]:
    """The options of each export of a task: of the one it names, or of each in its list, filled up from the task."""
    return task_options.listed(params, "exports", export_options(), ("name",))
