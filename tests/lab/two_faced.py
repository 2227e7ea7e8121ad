"""An NBD server on a Unix socket that shows other bytes as soon as an image has been written to it."""

from __future__ import annotations

import contextlib
import socketserver
import struct
import threading
from typing import Any, Iterator

READ, WRITE, DISCONNECT, ZEROES = 0, 1, 2, 6
_ABORT, _INFO, _GO = 2, 6, 7
_FLAGS = 1 | 4 | 1 << 6  # there are flags, flush, zeroes


class _Client(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(struct.error, ConnectionError):  # the client has gone
            if self._negotiated():
                while self._answered():
                    pass

    def _received(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(layout, self.rfile.read(struct.calcsize(layout)))

    def _negotiated(self) -> bool:
        size = len(self.server.disk)  # type: ignore[attr-defined]
        self.wfile.write(b"NBDMAGICIHAVEOPT\0\3")
        self._received(">I")
        while True:
            _magic, option, length = self._received(">QII")
            self.rfile.read(length)
            if option in (_INFO, _GO):
                self._reply(option, 3, struct.pack(">HQH", 0, size, _FLAGS))
            self._reply(option, 1 if option in (_INFO, _GO, _ABORT) else 1 << 31 | 1)
            if option in (_GO, _ABORT):
                return bool(option == _GO)

    def _reply(self, option: int, kind: int, data: bytes = b"") -> None:
        self.wfile.write(struct.pack(">QIII", 0x3E889045565A9, option, kind, len(data)) + data)

    def _answered(self) -> bool:
        _magic, _flags, kind, handle, offset, length = self._received(">IHHQQI")
        disk, other = self.server.disk, self.server.other  # type: ignore[attr-defined]
        if kind == WRITE:
            disk[offset : offset + length] = self.rfile.read(length)
        if kind == ZEROES:
            disk[offset : offset + length] = bytes(length)
        shown = other if disk[:3] == b"QFI" else disk
        data = bytes(shown[offset : offset + length]) if kind == READ else b""
        if kind != DISCONNECT:
            self.wfile.write(struct.pack(">IIQ", 0x67446698, 0, handle) + data)
        return bool(kind != DISCONNECT)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@contextlib.contextmanager
def two_faced(path: object, other: bytes) -> Iterator[None]:
    """An export that begins with zeros, of the size of what is shown then."""
    with _Server(str(path), _Client) as server:
        vars(server).update(disk=bytearray(len(other)), other=other)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
