# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a task asks of one timer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TimerSpec:
    """C(settings): the text that its program is told. C(on_calendar): as in systemd.time(7). C(randomized_delay): seconds."""

    name: str
    state: str = "present"
    settings: str = ""
    supervisor: str = "systemd"
    on_calendar: str = ""
    randomized_delay: int = 0
