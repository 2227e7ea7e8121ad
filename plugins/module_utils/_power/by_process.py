# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""VMs under a supervisor of ours (C(_tools/supervise.py)): a process each, which outlives the play."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._power import places, watched
from ansible_collections.platter.qemu.plugins.module_utils._power.definition import Declared
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_places, own_programs, process, supervised


class ByProcess:
    """What the executor asks of a supervisor. C(run): what runs commands."""

    def __init__(self, run: process.RunCommand) -> None:
        self._run = run

    @staticmethod
    def prepare() -> None:
        """What all VMs need."""
        from ansible_collections.platter.qemu.plugins.module_utils._tools import supervise

        places.make_programs("process")
        own_programs.write(supervise, places.program_file())

    @staticmethod
    def declare(vm: str, wanted: Declared) -> None:
        """Write down what the supervisor runs."""
        places.make_directory(vm)
        own_places.write(places.definition_file(vm), wanted.text, 0o600)

    def start(self, vm: str) -> None:
        """Returns when the supervisor has left us."""
        supervised.start(self._run, places.program_file(), places.directory_of(vm))

    @staticmethod
    def has_given_up(vm: str, watch: watched.Watch) -> bool:
        """A supervisor ends with a QEMU that has never worked."""
        return not watch.supervisors

    @staticmethod
    def give_up(vm: str) -> None:
        """It ends with its QEMU."""

    def supervise(self, vm: str, pid: int) -> None:
        """Another supervisor for a QEMU that runs."""
        supervised.start(self._run, places.program_file(), places.directory_of(vm), str(pid))

    @staticmethod
    def said(vm: str) -> t.List[str]:
        """The last lines of its log."""
        return supervised.said(places.directory_of(vm))

    @staticmethod
    def log(vm: str) -> str:
        """Where more of it is."""
        return supervised.log_file(places.directory_of(vm))

    @staticmethod
    def remove(vm: str) -> None:
        """With its log."""
        supervised.remove(places.directory_of(vm))
