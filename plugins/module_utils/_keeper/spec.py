# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a task asks of the keeper of one array."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KeeperSpec:
    """C(settings): the text that it is told. C(supervisor): systemd, or process."""

    name: str
    state: str = "present"
    settings: str = ""
    supervisor: str = "process"
    timeout: float = 60.0
