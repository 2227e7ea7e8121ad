"""A server on a Unix socket that says what a test's script says: the stand-in for QEMU's monitor and guest agent."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import Any, Callable, Iterator

#: until the client has come, or said something: it may be a module that starts on a busy machine
SECONDS = 120.0


class Peer:
    """The server's end of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(SECONDS)
        self.connection = connection
        self._lines = connection.makefile("rb")
        self.received: list[dict[str, Any]] = []

    def send(self, *messages: object) -> None:
        """Objects as lines; bytes as they are."""
        for message in messages:
            self.connection.sendall(message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        """The client's next object; {} when it has gone."""
        line = self._lines.readline()
        if line:
            self.received.append(dict(json.loads(line.lstrip(b"\xff"))))
        return self.received[-1] if line else {}

    def hang_up(self) -> None:
        """End the connection for both."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self._lines.close()

    def answer(self, value: object) -> dict[str, Any]:
        """Receive a command and return C(value) for it."""
        asked = self.receive()
        self.send({"return": value, **({"id": asked["id"]} if "id" in asked else {})})
        return asked


Script = Callable[[Peer], object]


@contextlib.contextmanager
def serving(path: object, *scripts: Script) -> Iterator[list[Peer]]:
    """One connection after the other, each by the next script. What a script raises fails the test."""
    peers: list[Peer] = []

    def serve(listening: socket.socket) -> None:
        for script in scripts:
            connection, _address = listening.accept()
            with connection:
                peers.append(Peer(connection))
                script(peers[-1])
                peers[-1].hang_up()

    with accepting(path, serve):
        yield peers


@contextlib.contextmanager
def accepting(path: object, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """C(serve) of a listening socket, in a thread, while the block runs. What it raises fails the test."""
    failures: list[BaseException] = []

    def attempt() -> None:
        try:
            serve(listening)
        except Exception as exc:  # noqa: BLE001 handed to the test
            failures.append(exc)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(SECONDS)
        thread = threading.Thread(target=attempt)
        thread.start()
        try:
            yield
        finally:
            thread.join()
    if failures:
        raise failures[0]
