# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Has the guest of a QEMU power down, when its host does or its unit is stopped. A program of its own:
C(python3 power_down.py SOCKET SECONDS), with the number of the process in C(MAINPID), as systemd has it.

It needs nothing but this file and Python's standard library, as it outlives the play and the files that the play was
made of. It ends when QEMU has ended, or after SECONDS: what becomes of a guest that has not powered down is for systemd to do.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import typing as t

#: seconds between two requests: a guest that is just starting does not hear the first
ASK_AGAIN = 5.0
#: seconds that QEMU has to answer, and between two looks at it
PATIENCE, LOOK = 5.0, 0.1


class Monitor:
    """A session with QEMU: commands and answers, events left out. Raises OSError when there is none (any more)."""

    def __init__(self, path: str) -> None:
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.settimeout(PATIENCE)
        self._connection.connect(path)
        self._lines = self._connection.makefile("rb")
        while "QMP" not in self._receive():
            pass
        self.execute("qmp_capabilities")

    def _receive(self) -> dict[str, t.Any]:
        line = self._lines.readline()
        if not line:
            raise ConnectionError("QEMU has ended")
        return dict(json.loads(line))

    def execute(self, command: str) -> t.Any:
        """What it returns; nothing when it refuses."""
        self._connection.sendall(json.dumps({"execute": command}).encode() + b"\n")
        while True:
            answer = self._receive()
            if "error" in answer or "return" in answer:
                return answer.get("return")

    def close(self) -> None:
        """Let others speak with it."""
        self._lines.close()
        self._connection.close()


def ask(path: str) -> None:
    """Press the button; where the guest has powered down, and QEMU only waits (C(-no-shutdown)), have that end."""
    monitor = Monitor(path)
    try:
        told = monitor.execute("query-status") or {}
        monitor.execute("quit" if told.get("status") == "shutdown" else "system_powerdown")
    finally:
        monitor.close()


def birth(pid: str) -> str:
    """When a process was started; empty when there is none (any more)."""
    try:
        with open("/proc/%s/stat" % pid, "rb") as stream:
            fields = stream.read().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


def main() -> None:
    """Entry point. Its status tells nobody anything."""
    path, seconds = sys.argv[1], float(sys.argv[2])
    pid = os.environ.get("MAINPID", "")
    born, end, again = birth(pid) if pid else "", time.monotonic() + seconds, 0.0
    while born and birth(pid) == born and time.monotonic() < end:
        if time.monotonic() >= again:
            try:
                ask(path)
            except (OSError, ValueError) as exc:
                sys.stderr.write("%s: %s\n" % (path, exc))
            again = time.monotonic() + ASK_AGAIN
        time.sleep(LOOK)


if __name__ == "__main__":
    main()
