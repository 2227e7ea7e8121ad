"""An NBD server on a Unix socket that says what a test's script says: what no sound server does."""

from __future__ import annotations

import contextlib
import socket
import struct
import typing as t

from ansible_collections.platter.qemu.tests.lab.scripted import SECONDS, accepting

GREETING = b"NBDMAGICIHAVEOPT\0\3"
ACK, SERVER, INFO, META = 1, 2, 3, 4


class Peer:
    """The server's end of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(SECONDS)
        self.connection = connection

    def send(self, data: bytes) -> None:
        """As it is."""
        self.connection.sendall(data)

    def receive(self, size: int) -> bytes:
        """So many bytes, fewer when the client has gone."""
        data = b""
        while len(data) < size:
            piece = self.connection.recv(size - len(data))
            if not piece:
                break
            data += piece
        return data

    def greet(self) -> None:
        """Up to the client's flags."""
        self.send(GREETING)
        self.receive(4)

    def option(self) -> int:
        """The number of the client's next option; 0 when it has gone."""
        header = self.receive(16)
        if len(header) < 16:
            return 0
        _magic, number, length = struct.unpack(">8sII", header)
        self.receive(length)
        return int(number)

    def reply(self, option: int, kind: int = ACK, data: bytes = b"", length: int | None = None) -> None:
        """One answer to an option. C(length): what it says of itself instead of the truth."""
        size = len(data) if length is None else length
        self.send(struct.pack(">QIII", 0x3E889045565A9, option, kind, size) + data)

    def ready(self) -> int:
        """Greet, agree to structured replies; the number of the option after that."""
        self.greet()
        self.reply(self.option())
        return self.option()


Script = t.Callable[[Peer], object]


@contextlib.contextmanager
def peer(path: object, script: Script, times: int = 1) -> t.Iterator[None]:
    """C(times) connections, one after the other, each by the script. What it raises fails the test, but for the
    client's going away.
    """
    failures: list[BaseException] = []

    def serve(listening: socket.socket) -> None:
        for _time in range(times):
            connection, _address = listening.accept()
            with connection:
                try:
                    script(Peer(connection))
                except (BrokenPipeError, ConnectionResetError):
                    pass
                except Exception as exc:  # noqa: BLE001 handed to the test
                    failures.append(exc)

    with accepting(path, serve):
        yield
    if failures:
        raise failures[0]
