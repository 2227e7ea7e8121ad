# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The options of C(initramfs_image)."""

from __future__ import annotations

import typing as t

ArgumentSpec = t.Dict[str, t.Dict[str, t.Any]]


def argument_spec() -> ArgumentSpec:
    """The argument spec of C(initramfs_image)."""
    return {
        "path": {"type": "path", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "root": {"type": "dict", "options": _root()},
        "network": {"type": "dict", "options": _network()},
        "modules_directory": {"type": "path"},
        "modules": {"type": "list", "elements": "str"},
        "wait": {"type": "int", "default": 120},
        "lock_timeout": {"type": "int", "default": 30},
    }


def _root() -> ArgumentSpec:
    return {
        "type": {"type": "str", "required": True, "choices": ["9p", "virtiofs", "nfs", "nbd_raid"]},
        "source": {"type": "str"},
        "options": {"type": "str"},
        "read_only": {"type": "bool", "default": False},
        "init": {"type": "str", "default": "/sbin/init"},
        "uuid": {"type": "str"},
        "level": {"type": "str", "choices": ["raid1", "raid5", "raid10"]},
        "filesystem": {"type": "str"},
        "legs": {"type": "list", "elements": "str"},
        "io_timeout": {"type": "int"},
        "start_degraded": {"type": "bool"},
    }


def _network() -> ArgumentSpec:
    return {
        "address": {"type": "str"},
        "gateway": {"type": "str"},
        "interface": {"type": "str"},
    }
