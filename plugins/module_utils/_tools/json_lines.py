# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""JSON objects, one a line, over a connected Unix socket. Every wait ends at a deadline (C(time.monotonic()))."""

from __future__ import annotations

import json
import select
import socket
import time
import typing as t

#: longer than any answer of QEMU's: C(query-named-block-nodes) of 1000 nodes is a few MiB
LONGEST_LINE = 64 << 20
_CHUNK = 1 << 18
#: seconds after a deadline in which what has come is still taken: who never stops sending would keep us for ever
_LATE_SECONDS = 5.0


class JsonLines:
    """Sends bytes and receives lines. Raises TimeoutError at the deadline, ConnectionError when the other end is gone
    or sends lines without end. The socket must not block.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._buffer = bytearray()
        self._searched = 0

    def send(self, data: bytes, deadline: float) -> None:
        """All of C(data)."""
        rest = memoryview(data)
        while rest:
            self._wait(select.POLLOUT, deadline)
            try:
                rest = rest[self.connection.send(rest) :]
            except BlockingIOError:
                continue

    def receive_line(self, deadline: float) -> bytes:
        """The next line, without its end. What came of a line before the deadline is kept for the next call.

        Somewhat after the deadline what is there already is still returned.
        """
        while True:
            if time.monotonic() > deadline + _LATE_SECONDS:
                raise TimeoutError("no end of what is sent")
            end = self._buffer.find(b"\n", self._searched)
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                self._searched = 0
                return line
            self._searched = len(self._buffer)
            if self._searched > LONGEST_LINE:
                raise ConnectionError("a line of more than %d bytes" % LONGEST_LINE)
            self._receive(deadline)

    def _receive(self, deadline: float) -> None:
        self._wait(select.POLLIN, deadline)
        try:
            received = self.connection.recv(_CHUNK)
        except BlockingIOError:
            return
        if not received:
            raise ConnectionError("the other end closed the connection")
        self._buffer += received

    def _wait(self, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(self.connection, event)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError("no answer in time")


def parsed(line: bytes) -> t.Dict[str, t.Any]:
    """The object in a line. Raises ConnectionError for anything else: what follows could not be trusted either."""
    try:
        value = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ConnectionError("the other end sent what is no JSON object: %r" % line[:80])
    return value
