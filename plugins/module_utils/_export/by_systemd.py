# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Servers under systemd: a unit each. What is true of units is in C(unit.py)."""

from __future__ import annotations

import contextlib
import os
import shutil
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._export import declared, places, unit, watched
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec
from ansible_collections.platter.qemu.plugins.module_utils._export.state import Definition
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_places, process, systemd


class BySystemd:
    """What the executor asks of a supervisor. C(run): what runs commands."""

    def __init__(self, run: process.RunCommand) -> None:
        self._run = run

    def declare(self, spec: ExportSpec, wanted: Definition) -> None:
        """Write the unit; C(reload) then tells systemd of all of them."""
        keys = places.export_directory(spec.name, "systemd")
        if spec.tls and spec.tls.psk_file:
            places.make_directories(spec.name, "systemd")
            places.link_keys(keys, spec.tls.psk_file)
        elif os.path.isdir(keys):
            places.link_keys(keys, None)
        own_places.write(unit.unit_file(spec.name), wanted.text, 0o644)

    @staticmethod
    def enable(name: str) -> None:
        """Have it started at boot, as C(systemctl enable) does."""
        systemd.enable(unit.unit_name(name))

    @staticmethod
    def disable(name: str) -> None:
        """As C(systemctl disable) does."""
        systemd.disable(unit.unit_name(name))

    def reload(self, failed: t.Sequence[str]) -> None:
        """Have systemd read its units again, and forget that those of the exports C(failed) have failed."""
        systemd.reload(self._run, [unit.unit_name(name) for name in failed])

    def start(self, spec: ExportSpec) -> None:
        """Returns when the server has been started, or cannot be."""
        with contextlib.suppress(errors.ToolError):
            systemd.tell(self._run, "start", "--", unit.unit_name(spec.name))

    def has_given_up(self, name: str) -> bool:
        """Whether no server is there, and none will be: one that ends by itself at its very start never works."""
        if watched.now(name).servers:
            return False
        told = systemd.show(self._run, [unit.unit_name(name)])[unit.unit_name(name)]
        return told["ActiveState"] != "active" or told["MainPID"] == "0"

    def give_up(self, name: str) -> None:
        """Do not start it again and again."""
        with contextlib.suppress(errors.ToolError):
            systemd.tell(self._run, "stop", "--no-block", "--", unit.unit_name(name))

    def supervise(self, spec: ExportSpec, server: int) -> None:
        """It runs in its unit, and was only not to be started at boot any more: C(enable) has mended that."""

    def said(self, name: str) -> t.List[str]:
        """The last lines of its log."""
        return systemd.last_words(self._run, unit.unit_name(name), 4)

    @staticmethod
    def log(name: str) -> str:
        """Where more of it is."""
        return "journalctl --unit=" + unit.unit_name(name)

    def begin_stop(self, name: str) -> None:
        """So that systemd does not start it again, whatever ends it, nor at boot."""
        self.disable(name)
        systemd.tell(self._run, "stop", "--no-block", "--", unit.unit_name(name))

    def end_stop(self, name: str, seconds: float) -> None:
        """Wait until systemd has seen it."""
        systemd.tell(self._run, "stop", "--", unit.unit_name(name), timeout=seconds)

    def remove(self, name: str) -> None:
        """What the administrator has added (drop-ins) stays."""
        if declared.in_unit(name):
            systemd.remove(unit.unit_name(name))
        shutil.rmtree(places.export_directory(name, "systemd"), ignore_errors=True)
