# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Servers under a supervisor of ours (C(_tools/supervise.py)): a process each, which outlives the play."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._export import places, watched
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec
from ansible_collections.platter.qemu.plugins.module_utils._export.state import Definition
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_places, process, supervised


class ByProcess:
    """What the executor asks of a supervisor. C(run): what runs commands."""

    def __init__(self, run: process.RunCommand) -> None:
        self._run = run

    def declare(self, spec: ExportSpec, wanted: Definition) -> None:
        """Write down what the supervisor runs."""
        places.make_directories(spec.name)
        places.link_keys(places.export_directory(spec.name), spec.tls.psk_file if spec.tls else None)
        own_places.write(places.definition_file(spec.name), wanted.text, 0o600)

    def start(self, spec: ExportSpec) -> None:
        """Returns when the supervisor has left us."""
        self._run_supervisor(spec)

    def has_given_up(self, name: str) -> bool:
        """A supervisor ends with a server that has never worked."""
        return not watched.now(name).supervisors

    def give_up(self, name: str) -> None:
        """It has ended already."""

    def supervise(self, spec: ExportSpec, server: int) -> None:
        """Another supervisor for a server that runs."""
        self._run_supervisor(spec, str(server))

    def _run_supervisor(self, spec: ExportSpec, *more: str) -> None:
        supervised.start(self._run, places.program_file(), places.export_directory(spec.name), *more)

    def said(self, name: str) -> t.List[str]:
        """The last lines of its log."""
        return supervised.said(places.export_directory(name))

    @staticmethod
    def log(name: str) -> str:
        """Where more of it is."""
        return supervised.log_file(places.export_directory(name))

    def remove(self, name: str) -> None:
        """With its log."""
        supervised.remove(places.export_directory(name))
