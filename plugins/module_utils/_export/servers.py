# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The servers there are. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._export.ground import Server
from ansible_collections.platter.qemu.plugins.module_utils._export.state import Definition

#: the first that can do what is asked is taken
ORDER = ("qemu_nbd", "nbdkit", "storage_daemon")
PROGRAMS = {"qemu_nbd": "qemu-nbd", "nbdkit": "nbdkit", "storage_daemon": "qemu-storage-daemon"}
_NBDKIT_SECONDS = 2.0


def of(name: str) -> Server:
    """The server of that name. Imported here, as each run needs one."""
    if name == "nbdkit":
        from ansible_collections.platter.qemu.plugins.module_utils._export import server_nbdkit

        return server_nbdkit
    if name == "storage_daemon":
        from ansible_collections.platter.qemu.plugins.module_utils._export import server_storage_daemon

        return server_storage_daemon
    from ansible_collections.platter.qemu.plugins.module_utils._export import server_qemu_nbd

    return server_qemu_nbd


def loses_nothing(made: Definition) -> bool:
    """Whether such a server can be killed: clients cannot write, or nothing that they have written is in its memory."""
    return not made.writes or made.options.get("server") == "nbdkit"


def patience(options: t.Mapping[str, t.Any], seconds: float) -> float:
    """How long a server is asked to end, of C(seconds) at most: nbdkit waits for its clients to go, and else for nothing."""
    return min(seconds, _NBDKIT_SECONDS) if options.get("server") == "nbdkit" else seconds
