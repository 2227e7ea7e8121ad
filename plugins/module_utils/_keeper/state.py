# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What is so: the keeper as it lies on the host and runs (KeeperState)."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._keeper.spec import Parts


@dataclass(frozen=True)
class KeeperState:
    """The managed part. C(supervisor): what runs it, empty for none; C(parts): its files, None where there are none.

    C(enabled): it is started at boot (systemd). C(outdated): what runs is what was written before.
    """

    name: str
    supervisor: str = ""
    parts: t.Optional[Parts] = None
    enabled: bool = False
    running: bool = False
    outdated: bool = False

    def to_facts(self) -> t.Dict[str, t.Any]:
        """As results and diffs show it."""
        facts: t.Dict[str, t.Any] = {"name": self.name, "state": "present" if self.parts else "absent"}
        if self.parts:
            facts.update(supervisor=self.supervisor, running=self.running and not self.outdated)
            facts.update(program=self.parts.program, settings=self.parts.settings)
        return facts
