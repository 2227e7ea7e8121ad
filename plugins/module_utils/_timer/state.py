# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What is so: the timer as it lies on the host and waits (TimerState)."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._timer.spec import Parts


@dataclass(frozen=True)
class TimerState:
    """The managed part. C(parts): its files, None where there are none. C(enabled): it waits after a boot too.

    C(active): it waits for its time now. C(outdated): as systemd has read it before it was written anew.
    """

    name: str
    parts: t.Optional[Parts] = None
    enabled: bool = False
    active: bool = False
    outdated: bool = False

    def to_facts(self) -> t.Dict[str, t.Any]:
        """As results and diffs show it."""
        facts: t.Dict[str, t.Any] = {"name": self.name, "state": "present" if self.parts else "absent"}
        if self.parts:
            facts.update(active=self.active and not self.outdated, program=self.parts.program)
            facts.update(settings=self.parts.settings, timer=self.parts.timer)
        return facts
