# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Servers under a supervisor of ours (C(_tools/supervise.py)): a process each, which outlives the play."""

from __future__ import annotations

import os
import shutil
import sys
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._export import places, watched
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec
from ansible_collections.platter.qemu.plugins.module_utils._export.state import Definition
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, process, supervise

#: seconds until the supervisor has left us
_PATIENCE = 30.0
#: of the log, in a message
_TAIL = 2000


class ByProcess:
    """What the executor asks of a supervisor. C(run): what runs commands."""

    def __init__(self, run: process.RunCommand) -> None:
        self._run = run

    def declare(self, spec: ExportSpec, wanted: Definition) -> None:
        """Write down what the supervisor runs."""
        places.make_directories(spec.name)
        places.link_keys(places.export_directory(spec.name), spec.tls.psk_file if spec.tls else None)
        places.write(places.definition_file(spec.name), wanted.text, 0o600)

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
        """It leaves by itself: without our descriptors, our environment, our session."""
        environment = ["%s=%s" % pair for pair in supervise.ENVIRONMENT.items()]
        program = [sys.executable, "-I", "-S", places.program_file(), places.export_directory(spec.name)]
        process.run(self._run, ["env", "-i", *environment, *program, *more], timeout=_PATIENCE)

    def said(self, name: str) -> t.List[str]:
        """The last lines of its log."""
        try:
            with open(places.log_file(name), "rb") as stream:
                stream.seek(max(os.fstat(stream.fileno()).st_size - _TAIL, 0))
                return stream.read().decode("utf-8", "replace").strip().splitlines()[-4:]
        except OSError:
            return []

    @staticmethod
    def log(name: str) -> str:
        """Where more of it is."""
        return places.log_file(name)

    def remove(self, name: str) -> None:
        """With its log."""
        directory = places.export_directory(name)
        if os.path.isdir(directory):
            shutil.rmtree(directory)
            files.fsync_path(os.path.dirname(directory))
