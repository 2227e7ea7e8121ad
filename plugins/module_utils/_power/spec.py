# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a task asks of the process of one VM."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PowerSpec:
    """A VM that C(qemu_drive) has defined. C(config): the directory of its definition; C(qmp_socket): the Unix socket of its
    monitor; both absolute.

    C(start_timeout): seconds until QEMU must answer; C(stop_timeout): seconds that the guest has to power down.
    C(allow_power_off): then QEMU is told to quit.
    """

    vm: str
    config: str
    qmp_socket: str
    state: str = "started"
    supervisor: str = "auto"
    start_timeout: float = 30.0
    stop_timeout: float = 120.0
    allow_power_off: bool = False
