# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The steps that a plan for a timer is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ansible_collections.platter.qemu.plugins.module_utils._core.plan import Action
from ansible_collections.platter.qemu.plugins.module_utils._timer.spec import Parts
from ansible_collections.platter.qemu.plugins.module_utils._timer.state import TimerState


@dataclass(frozen=True)
class StopTimer(Action[TimerState]):
    """It starts no run any more."""

    name: str

    def apply(self, state: TimerState) -> TimerState:
        return replace(state, active=False, outdated=False)

    def __str__(self) -> str:
        return "Stop the timer of snapshots %s." % self.name


@dataclass(frozen=True)
class RemoveTimer(Action[TimerState]):
    """Remove its files. The snapshots stay."""

    name: str

    def apply(self, state: TimerState) -> TimerState:
        return TimerState(state.name)

    def __str__(self) -> str:
        return "Remove the timer of snapshots %s." % self.name


@dataclass(frozen=True)
class WriteTimer(Action[TimerState]):
    """Write what it consists of."""

    name: str
    parts: Parts

    def apply(self, state: TimerState) -> TimerState:
        return replace(state, parts=self.parts, enabled=True, outdated=state.active)

    def __str__(self) -> str:
        return "Write the timer of snapshots %s." % self.name


@dataclass(frozen=True)
class StartTimer(Action[TimerState]):
    """Have it wait for its time, as it is written. One that waits goes on."""

    name: str

    def apply(self, state: TimerState) -> TimerState:
        return replace(state, active=True, outdated=False)

    def __str__(self) -> str:
        return "Start the timer of snapshots %s." % self.name
