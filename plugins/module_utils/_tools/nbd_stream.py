# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""A connection to an NBD server on which every wait ends at one deadline, and which takes so many bytes and no more."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, nbd_uri

if t.TYPE_CHECKING:
    import ssl


class NbdStream:
    """Bytes to and from a server. C(deadline): of C(time.monotonic()). C(budget): bytes that may come.

    Raises OSError (TimeoutError at the deadline: of however many small answers the server made the wait), WireError.
    """

    def __init__(self, connection: socket.socket, deadline: float, budget: int) -> None:
        self._connection = connection
        self._deadline = deadline
        self._budget = budget

    def close(self) -> None:
        """End the connection, of TLS properly, and do not wait."""
        with contextlib.suppress(OSError, ValueError):
            self._connection.settimeout(0)
            if hasattr(self._connection, "unwrap"):
                self._connection.unwrap()
        self._connection.close()

    def hand_over(self, limit: int = 0) -> socket.socket:
        """The connection, whose user waits as long as it takes. C(limit): seconds after which the kernel gives it up, with
        what the other end has not taken. Else it goes on sending that for minutes after everybody has left; 0: so be it.
        """
        if limit and self._connection.family != socket.AF_UNIX:
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit * 1000)
        self._connection.settimeout(None)
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", 0, 0))
        return self._connection

    def leave(self) -> None:
        """Nothing is sent, and who else has the connection keeps it."""
        self._connection.close()

    def send(self, data: bytes) -> None:
        """All of it."""
        self._connection.settimeout(_left(self._deadline))
        self._connection.sendall(data)

    def receive(self, size: int) -> bytes:
        """Exactly C(size) bytes."""
        self._budget -= size
        if self._budget < 0:
            raise errors.WireError("it sends without end")
        data = bytearray()
        while len(data) < size:
            self._connection.settimeout(_left(self._deadline))
            piece = self._connection.recv(size - len(data))
            if not piece:
                raise ConnectionError("it has hung up")
            data += piece
        return bytes(data)

    def start_tls(self, context: ssl.SSLContext, hostname: t.Optional[str]) -> t.Tuple[str, str]:
        """From here on everything is encrypted. Returns (version, cipher). Raises ssl.SSLError (an OSError)."""
        self._connection.settimeout(_left(self._deadline))
        secured = context.wrap_socket(self._connection, server_hostname=hostname, do_handshake_on_connect=False)
        self._connection = secured
        secured.settimeout(_left(self._deadline))
        secured.do_handshake()
        return str(secured.version()), str((secured.cipher() or ("",))[0])


def connect(address: nbd_uri.Address, deadline: float) -> socket.socket:
    """A connection to the server. Raises OSError; TimeoutError at the deadline, whatever it waited for."""
    if address.socket:
        return _connect_unix(address.socket, deadline)
    found = _resolve(address.host, address.port, deadline)
    for number, (family, kind, protocol, _name, where) in enumerate(found):
        connection = socket.socket(family, kind, protocol)
        try:
            # an address that swallows everything does not take the time of the next one
            connection.settimeout(_left(deadline) / (len(found) - number))
            connection.connect(where)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as exc:
            connection.close()
            if number + 1 == len(found):
                raise _timed_out(exc) from exc
        else:
            return connection
    raise OSError("%s has no address" % address.host)


def _connect_unix(path: str, deadline: float) -> socket.socket:
    """However long its name. A blocking C(connect) with a limit: without blocking a full queue is an error at once."""
    found = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            left = _left(deadline)
            limit = struct.pack("@ll", int(left), int(left % 1 * 1e6) or 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            connection.connect("/proc/self/fd/%d" % found)
        except OSError as exc:
            connection.close()
            raise _timed_out(exc) from exc
        return connection
    finally:
        os.close(found)


def _timed_out(exc: OSError) -> OSError:
    """Before Python 3.10 C(socket.timeout) is no TimeoutError."""
    return TimeoutError("timed out") if isinstance(exc, (socket.timeout, BlockingIOError)) else exc


def _resolve(host: str, port: int, deadline: float) -> t.List[t.Any]:
    """The addresses of a host. The resolver has no limit of its own that we could set, so a thread waits for it."""
    answers: t.List[t.Any] = []

    def ask() -> None:
        try:
            answers.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as exc:
            answers.append(exc)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_left(deadline))
    if not answers:
        raise TimeoutError("the name of the host is not found in time")
    if isinstance(answers[0], UnicodeError):
        raise OSError("%r is no name of a host" % host)
    if isinstance(answers[0], OSError):
        raise answers[0]
    return list(answers[0])


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left
