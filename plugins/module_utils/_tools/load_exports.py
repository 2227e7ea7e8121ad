# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Gives a qemu-storage-daemon that was started the exports that are declared for it. A program of its own:
C(python3 load_exports.py DIRECTORY MONITOR).

It needs nothing but this file and Python's standard library, as it outlives the play and the files that the play was
made of. Each C(DIRECTORY/NAME.json) says of one export how it is made (C(steps): commands of QMP). One that cannot be made
does not keep the others from being served.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import typing as t

#: seconds until the daemon listens, and for all that is said with it
PATIENCE = 30.0


class Monitor:
    """A session with the daemon: commands and answers, events left out."""

    def __init__(self, path: str) -> None:
        self._connection = _connected(path)
        self._lines = self._connection.makefile("rb")
        while "QMP" not in json.loads(self._lines.readline()):
            pass
        self.execute("qmp_capabilities", {})

    def execute(self, command: str, arguments: t.Mapping[str, t.Any]) -> t.Any:
        """What it returns. Raises ValueError with its own words when it refuses."""
        self._connection.sendall(json.dumps({"execute": command, "arguments": arguments, "id": 1}).encode() + b"\n")
        while True:
            answer = json.loads(self._lines.readline())
            if "error" in answer:
                raise ValueError(answer["error"]["desc"])
            if "return" in answer:
                return answer["return"]


def _connected(path: str) -> socket.socket:
    deadline = time.monotonic() + PATIENCE
    while True:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE)
        try:
            connection.connect(path)
        except OSError:
            connection.close()
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.01)
        else:
            return connection


def load(monitor: Monitor, path: str) -> None:
    """Make one export."""
    with open(path, encoding="utf-8") as stream:
        steps = json.load(stream)["steps"]
    for command, arguments in steps:
        monitor.execute(command, arguments)


def main() -> None:
    """Entry point. Its status tells nobody anything: the daemon goes on with what it has."""
    directory, path = sys.argv[1:]
    names = sorted(name for name in os.listdir(directory) if name.endswith(".json"))
    monitor = Monitor(path)
    there = {export["id"] for export in monitor.execute("query-block-exports", {})}
    for name in names:
        try:
            if "e-" + name[: -len(".json")] not in there:
                load(monitor, os.path.join(directory, name))
        except (OSError, ValueError, LookupError) as exc:
            sys.stderr.write("%s is not served: %s\n" % (name, exc))


if __name__ == "__main__":
    main()
