# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What is so: what is declared of the process of a VM, and what runs (PowerState); and what was read beside it to decide
(PowerReading).
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._power.definition import Declared


@dataclass(frozen=True)
class PowerState:
    """The managed part. C(running): its QEMU is there, started by us. C(supervisor): what starts it again when it fails; empty
    where that has gone. C(at_boot): systemd starts it with the host.
    """

    vm: str
    declared: t.Optional[Declared] = None
    running: bool = False
    supervisor: str = ""
    at_boot: bool = False

    def to_facts(self) -> t.Dict[str, t.Any]:
        """The state as results and diffs show it."""
        state = "started" if self.running else "absent" if self.declared is None else "stopped"
        facts: t.Dict[str, t.Any] = {"vm": self.vm, "state": state}
        if self.declared is not None:
            facts.update(self.declared.to_facts())
        if self.supervisor == "systemd" or (self.declared and self.declared.supervisor == "systemd"):
            facts["at_boot"] = self.at_boot
        return dict(facts, unsupervised=True) if self.running and not self.supervisor else facts


@dataclass(frozen=True)
class PowerReading:
    """Facts that decide but are not managed.

    C(pids): the QEMU; C(foreign): others of that name, C(foreign_words) the command line of each. C(watched): something would
    start it again. C(load): of its unit, in systemd's words. C(defined): there is a definition, for a VM of the name
    C(defined_as); C(elsewhere): else the directory where there is one. C(altered): the program that starts it is not as the
    definition has it. C(unfit): why the definition cannot be started so. C(outdated): what runs has other arguments than what
    is defined, or another supervisor than what is asked; None where that was not looked at. C(socket_problem): (reason, fact,
    way out).
    """

    pids: t.Tuple[int, ...] = ()
    foreign: t.Tuple[int, ...] = ()
    foreign_words: t.Tuple[t.Tuple[str, ...], ...] = ()
    watched: bool = False
    load: str = "not-found"
    defined: bool = True
    defined_as: str = ""
    elsewhere: str = ""
    altered: bool = False
    unfit: str = ""
    outdated: t.Optional[bool] = None
    socket_taken: bool = False
    socket_problem: t.Optional[t.Tuple[str, str, str]] = None
