# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The servers there are. Pure."""

from __future__ import annotations

from ansible_collections.platter.qemu.plugins.module_utils._export.ground import Server

#: the first that can do what is asked is taken
ORDER = ("qemu_nbd",)
PROGRAMS = {"qemu_nbd": "qemu-nbd"}


def of(name: str) -> Server:
    """The server of that name. Imported here, as each run needs one."""
    from ansible_collections.platter.qemu.plugins.module_utils._export import server_qemu_nbd

    return server_qemu_nbd
