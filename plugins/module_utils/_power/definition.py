# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What is written down of the process of a VM: for a supervisor of ours, or for systemd (C(unit.py)). Pure."""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._core import unit_text
from ansible_collections.platter.qemu.plugins.module_utils._power.spec import PowerSpec

#: the file for a supervisor of ours, as that knows it
FILE = "vm.json"
#: the host ends whom it likes when memory is short: a VM has the most of it
_OOM_SCORE = 0


@dataclass(frozen=True)
class Declared:
    """C(argv): what starts the VM; it is the definition that says which drives it has. C(options): as results show them, with
    C(socket) for the supervisor; of what cannot be read, C(unreadable). C(text): all of the file.
    """

    argv: t.Tuple[str, ...]
    options: t.Mapping[str, t.Any]
    text: str = ""

    @property
    def supervisor(self) -> str:
        """What watches over it; empty where that cannot be read."""
        return str(self.options.get("supervisor", ""))

    def to_facts(self) -> t.Dict[str, t.Any]:
        """As results and diffs show it."""
        shown = {key: self.options[key] for key in ("config", "supervisor") if key in self.options}
        return dict(shown, qmp_socket=self.options["socket"]) if "socket" in self.options else shown


def define(spec: PowerSpec, supervisor: str, start: str, added: t.Sequence[str]) -> Declared:
    """C(start): the program that starts the VM; C(added): arguments for it."""
    options = {"vm": spec.vm, "config": spec.config, "socket": spec.qmp_socket, "supervisor": supervisor}
    # by the shell, as systemd has rules of its own for the name of a program
    made = Declared((unit_text.SHELL, start, *added), options)
    return Declared(made.argv, options, to_line(made) + "\n")


def to_line(made: Declared) -> str:
    """As JSON, in one line. An end that a supervisor has not seen, as it took the VM over, is taken for that of the guest."""
    written = {"argv": list(made.argv), "options": made.options, "unseen_end": 0, "oom_score_adj": _OOM_SCORE}
    return json.dumps(written)


def parse(text: str) -> t.Optional[Declared]:
    """What a file says; None where it was not written by us."""
    try:
        written = json.loads(text)
        return Declared(tuple(map(str, written["argv"])), dict(written["options"]), text)
    except (ValueError, LookupError, TypeError):
        return None
