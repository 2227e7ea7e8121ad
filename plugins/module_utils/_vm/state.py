# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What there is of the drives of a VM: its definition, and what it runs with."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.platter.qemu.plugins.module_utils._vm import definition


@dataclass(frozen=True)
class VmState:
    """C(defined) None: there is no definition. C(whole): all of its files are as they are made of it, and it is known to
    other VMs' tasks. C(left): there is something of ours, be it only what a killed run has left. C(current): what C(start) asks
    is that of this version. C(live): a C(LiveState) of the running VM; None where none was looked at.
    """

    vm: str
    config: str
    defined: t.Optional[definition.VmDefinition] = None
    whole: bool = True
    left: bool = False
    current: bool = True
    live: t.Any = field(default=None, compare=False)

    def to_facts(self) -> t.Dict[str, t.Any]:
        """As results and diffs show it."""
        facts: t.Dict[str, t.Any] = {"vm": self.vm, "state": "absent" if self.defined is None else "present"}
        if self.defined is None:
            return facts
        facts.update(self.defined.to_facts(), config=self.config)
        facts.update({} if self.whole else {"altered": True})
        return facts
