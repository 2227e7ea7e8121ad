# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The options of C(md_keeper)."""

from __future__ import annotations

import typing as t

ArgumentSpec = t.Dict[str, t.Dict[str, t.Any]]


def argument_spec() -> ArgumentSpec:
    """The argument spec of C(md_keeper)."""
    return {
        "name": {"type": "str", "required": True},
        "uuid": {"type": "str"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "level": {"type": "str", "choices": ["raid1", "raid5", "raid10"], "default": "raid1"},
        "legs": {"type": "list", "elements": "dict", "options": _leg()},
        "size": {"type": "str"},
        "consistency_policy": {"type": "str", "choices": ["bitmap", "ppl"], "default": "bitmap"},
        "io_timeout": {"type": "int", "default": 10},
        "interval": {"type": "int", "default": 5},
        "on_all_lost": {"type": "str", "choices": ["restart", "leave"], "default": "restart"},
        "alarm": {"type": "list", "elements": "str"},
        "supervisor": {"type": "str", "choices": ["auto", "systemd", "process"], "default": "auto"},
        "timeout": {"type": "int", "default": 30},
        "lock_timeout": {"type": "int", "default": 30},
    }


def _leg() -> ArgumentSpec:
    return {
        "name": {"type": "str", "required": True},
        "source": {"type": "str", "required": True},
        "server": {"type": "str"},
        "tls_certificates": {"type": "path"},
        "tls_hostname": {"type": "str"},
        "tls_psk_file": {"type": "path"},
        "tls_username": {"type": "str"},
    }
