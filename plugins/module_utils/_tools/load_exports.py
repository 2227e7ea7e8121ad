# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Gives a qemu-storage-daemon that was started the exports that are declared for it. A program of its own:
C(python3 load_exports.py DIRECTORY MONITOR).

It needs nothing but this file and Python's standard library, as it outlives the play and the files that the play was
made of. Each C(DIRECTORY/NAME.json) says of one export how it is made (C(steps): commands of QMP). One that cannot be made
does not keep the others from being served, and is tried again for some minutes, by a child, as others wait for the end of
this program.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import typing as t

#: seconds until the daemon listens, and until what cannot be served is given up
PATIENCE, LONGEST = 30.0, 300.0
#: seconds between two looks for the daemon, and between two attempts, growing
LOOK, SHORTEST_PAUSE, LONGEST_PAUSE = 0.01, 0.1, 5.0
#: seconds from when its socket has come until it is spoken to: sooner it can die of that (C(_export/daemons.py))
SETTLED = 0.05


class Monitor:
    """A session with the daemon: commands and answers, events left out. Raises OSError when there is none (any more)."""

    def __init__(self, path: str) -> None:
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.settimeout(PATIENCE)
        while 0 <= time.time() - os.lstat(path).st_ctime < SETTLED:
            time.sleep(LOOK)
        self._connection.connect(path)
        self._lines = self._connection.makefile("rb")
        while "QMP" not in self._receive():
            pass
        self.execute("qmp_capabilities", {})

    def _receive(self) -> dict[str, t.Any]:
        line = self._lines.readline()
        if not line:
            raise ConnectionError("the daemon has ended")
        return dict(json.loads(line))

    def execute(self, command: str, arguments: t.Mapping[str, t.Any]) -> t.Any:
        """What it returns. Raises ValueError with its own words when it refuses."""
        self._connection.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            answer = self._receive()
            if "error" in answer:
                raise ValueError(answer["error"]["desc"])
            if "return" in answer:
                return answer["return"]

    def close(self) -> None:
        """Let others speak with it."""
        self._lines.close()
        self._connection.close()


def serve(directory: str, path: str) -> dict[str, str]:
    """Have it serve what is declared and not there yet; why it does not, by name."""
    monitor = Monitor(path)
    try:
        there = {export["id"] for export in monitor.execute("query-block-exports", {})}
        names = sorted(name[: -len(".json")] for name in os.listdir(directory) if name.endswith(".json"))
        tried = {name: problem(monitor, directory, name) for name in names if "e-" + name not in there}
        return {name: text for name, text in tried.items() if text}
    finally:
        monitor.close()


def problem(monitor: Monitor, directory: str, name: str) -> str:
    """Make one export; why that cannot be, or nothing."""
    done: list[tuple[str, str]] = []
    try:
        with open(os.path.join(directory, name + ".json"), encoding="utf-8") as stream:
            steps = json.load(stream)["steps"]
        for command, arguments in steps:
            monitor.execute(command, arguments)
            done.append((command, arguments.get("node-name") or arguments.get("id")))
    except FileNotFoundError:  # it has been taken out meanwhile
        return ""
    except (ValueError, LookupError) as exc:
        undo(monitor, done)
        return str(exc)
    return ""


def undo(monitor: Monitor, done: list[tuple[str, str]]) -> None:
    """What has been made would be in the way of the next attempt."""
    for command, name in reversed(done):
        back = {"blockdev-add": ("blockdev-del", "node-name"), "object-add": ("object-del", "id")}[command]
        monitor.execute(back[0], {back[1]: name})


def main() -> None:
    """Entry point. Its status tells nobody anything: the daemon goes on with what it has."""
    directory, path = sys.argv[1:]
    began, pause, found = time.monotonic(), SHORTEST_PAUSE, False
    said: dict[str, str] = {}
    while time.monotonic() - began < (LONGEST if found else PATIENCE):
        try:
            failed = serve(directory, path)
        except OSError:
            if found:  # whoever starts it again starts this too
                return
            time.sleep(LOOK)
            continue
        for name in failed:
            if said.get(name) != failed[name]:
                sys.stderr.write("export %s is not served: %s\n" % (name, failed[name]))
        said = failed
        if not failed or (not found and os.fork()):
            return
        found = True
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


if __name__ == "__main__":
    main()
