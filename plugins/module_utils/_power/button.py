# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The power button of a running QEMU, and what QEMU says of its guest."""

from __future__ import annotations

import contextlib
import os
import signal
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._power import monitor
from ansible_collections.platter.qemu.plugins.module_utils._tools import qemu_process
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp

#: seconds that a QEMU has to answer; it speaks with one client at a time
_PATIENCE = 3.0


class Button:
    """Of one VM. C(declared): the socket of its monitor, as it is written down. C(run_state): what QEMU has said last of its
    guest; C(silence): why it has said nothing. C(commands): what was sent.
    """

    def __init__(self, declared: str) -> None:
        self._declared = declared
        self.run_state = self.silence = ""
        self.commands: t.List[t.List[str]] = []

    def press(self, pids: t.Sequence[int]) -> None:
        """Ask the guest of C(pids) to power down. One that has, and whose QEMU only waits (C(-no-shutdown)), has nothing to
        lose: QEMU is told to quit.
        """
        self._ask(pids, lambda state: "quit" if state == "shutdown" else "system_powerdown")

    def quit(self, pids: t.Sequence[int]) -> None:
        """QEMU writes out what it holds, and ends. A signal says the same to one that speaks with somebody else."""
        self._ask(pids, lambda state: "quit")
        if self.silence:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

    def answers(self, pids: t.Sequence[int]) -> bool:
        """Whether QEMU does."""
        self._ask(pids, lambda state: "")
        return not self.silence

    def _ask(self, pids: t.Sequence[int], then: t.Callable[[str], str]) -> None:
        """Speak with one of C(pids), and no other; C(then): what it is told, by its run state. What ends that is noted: the
        guest may just have powered down.
        """
        self.silence = ""
        try:
            with Qmp.connect(self._socket(pids), _PATIENCE) as qmp:
                self._refuse_other(qmp, pids)
                self.run_state = str(qmp.execute("query-status", timeout=_PATIENCE).get("status", ""))
                self._tell(qmp, then(self.run_state))
        except errors.QmpError as exc:
            self.silence = exc.message

    def _tell(self, qmp: Qmp, command: str) -> None:
        if command:
            self.commands.append(["qmp", qmp.path, command, "{}"])
            qmp.execute(command, timeout=_PATIENCE)

    def _socket(self, pids: t.Sequence[int]) -> str:
        """As it was started with, which can be another than is declared now."""
        known = [path for pid in pids for path in monitor.sockets(qemu_process.arguments(pid))]
        return self._declared if self._declared in known or not known else known[0]

    @staticmethod
    def _refuse_other(qmp: Qmp, pids: t.Sequence[int]) -> None:
        if not qmp.peer_pids() & set(pids):
            raise errors.QmpConnectError(qmp.path, "another process answers", reason="qmp_unreachable")
