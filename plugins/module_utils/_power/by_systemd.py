# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""VMs under systemd: a unit each. What is true of units is in C(unit.py)."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, unit_text
from ansible_collections.platter.qemu.plugins.module_utils._power import declared, places, unit, watched
from ansible_collections.platter.qemu.plugins.module_utils._power.definition import Declared
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_places, own_programs, process, systemd


class BySystemd:
    """What the executor asks of a supervisor. C(run): what runs commands."""

    def __init__(self, run: process.RunCommand) -> None:
        self._run = run

    @staticmethod
    def prepare() -> None:
        """What all VMs need."""
        from ansible_collections.platter.qemu.plugins.module_utils._tools import power_down

        places.make_programs("systemd")
        own_programs.write(power_down, places.program_file("power_down.py", "systemd"))

    @staticmethod
    def declare(vm: str, wanted: Declared) -> None:
        """Write the unit; C(reload) then tells systemd of all of them."""
        own_places.write(unit_text.unit_file(unit.unit_name(vm)), wanted.text, 0o644)

    def reload(self, vms: t.Sequence[str]) -> None:
        """Have systemd read its units again, and forget what has failed of those."""
        systemd.reload(self._run, list(map(unit.unit_name, vms)))

    def start(self, vm: str) -> None:
        """Returns when QEMU has been started, or cannot be."""
        with contextlib.suppress(errors.ToolError):
            systemd.tell(self._run, "start", "--", unit.unit_name(vm))

    def has_given_up(self, vm: str, watch: watched.Watch) -> bool:
        """Whether no QEMU is there, and none will be: one that ends by itself at its very start never works."""
        if watch.servers:
            return False
        told = systemd.show(self._run, [unit.unit_name(vm)])[unit.unit_name(vm)]
        return told["ActiveState"] != "active" or told["MainPID"] == "0"

    @staticmethod
    def enable(vm: str) -> None:
        """Have it started at boot."""
        systemd.enable(unit.unit_name(vm))

    @staticmethod
    def disable(vm: str) -> None:
        """Have it not started at boot."""
        systemd.disable(unit.unit_name(vm))

    def end(self, vm: str, seconds: float) -> None:
        """So that systemd does not start it again; what is still there has C(seconds) to end."""
        systemd.tell(self._run, "stop", "--", unit.unit_name(vm), timeout=seconds)

    def give_up(self, vm: str) -> None:
        """Do not start it again and again; who asks does not wait."""
        with contextlib.suppress(errors.ToolError):
            systemd.tell(self._run, "stop", "--no-block", "--", unit.unit_name(vm))

    def said(self, vm: str) -> t.List[str]:
        """The last lines of its log."""
        return systemd.last_words(self._run, unit.unit_name(vm), 4)

    @staticmethod
    def log(vm: str) -> str:
        """Where more of it is."""
        return "journalctl --unit=" + unit.unit_name(vm)

    @staticmethod
    def remove(vm: str) -> None:
        """What the administrator has added (drop-ins) stays."""
        if declared.in_unit(vm):
            systemd.remove(unit.unit_name(vm))
