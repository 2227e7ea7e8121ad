# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Whether a connected socket, of which the kernel has taken possession, still has another end."""

from __future__ import annotations

from ansible_collections.platter.qemu.plugins.module_utils._tools import tcp_sockets, unix_sockets


def is_open(number: int) -> bool:
    """C(number): of the socket, as C(/proc/PID/fd) shows it. In this network namespace."""
    found = tcp_sockets.read_table().get(number)
    if found is not None:
        return not found.listening
    return any(each.peer == number for each in unix_sockets.read_table().values())
