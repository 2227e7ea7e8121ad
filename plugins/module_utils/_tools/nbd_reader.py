# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""The bytes of an export that C(nbd_client.py) has opened, in requests that the server allows."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import nbd_commands, nbd_protocol
from ansible_collections.platter.qemu.plugins.module_utils._tools import nbd_stream

#: bytes of one request
_PIECE = 1 << 20


class ExportReader:
    """The bytes of an open export: a C(ByteSource). C(length) in bytes."""

    def __init__(
        self,
        export: nbd_protocol.Export,
        stream: nbd_stream.NbdStream,
        speaking: t.Callable[[str], t.ContextManager[None]],
    ) -> None:
        self.export = export
        self.length = export.size
        self._stream = stream
        self._speaking = speaking
        self._handle = 0
        self._grid = export.block_size.minimum if export.block_size else 1
        self._most = min(_PIECE, export.block_size.maximum) if export.block_size else _PIECE

    def read(self, offset: int, size: int) -> bytes:
        """Exactly C(size) bytes, or fewer at the end of the export. The bytes of all reads share the client's limits."""
        end = min(offset + size, self.length)
        if not 0 <= offset < end:
            return b""
        start = offset // self._grid * self._grid
        stop = min(-(-end // self._grid) * self._grid, self.length)
        step = max(self._most // self._grid * self._grid, self._grid)
        with self._speaking("reading bytes %d to %d" % (offset, end)):
            data = b"".join(self._piece(at, min(step, stop - at)) for at in range(start, stop, step))
        return data[offset - start : end - start]

    def _piece(self, offset: int, size: int) -> bytes:
        self._handle += 1
        self._stream.send(nbd_commands.request(nbd_commands.CMD_READ, self._handle, offset, size))
        magic = self._stream.receive(4)
        if nbd_commands.is_structured(magic):
            return self._structured(magic, offset, size)
        rest = self._stream.receive(nbd_commands.SIMPLE_REPLY_SIZE - len(magic))
        nbd_commands.check_simple_reply(magic + rest, self._handle)
        return self._stream.receive(size)

    def _structured(self, magic: bytes, offset: int, size: int) -> bytes:
        data, filled = bytearray(size), 0
        while True:
            rest = self._stream.receive(nbd_commands.STRUCTURED_REPLY_SIZE - len(magic))
            chunk = nbd_commands.structured_reply(magic + rest, self._handle, size)
            filled += nbd_commands.place_chunk(chunk, self._stream.receive(chunk.length), offset, data)
            nbd_protocol.require(filled <= size, "it sends more than was asked for")
            if chunk.done:
                break
            magic = self._stream.receive(4)
            nbd_protocol.require(nbd_commands.is_structured(magic), "it answers simply in the middle of its pieces")
        nbd_protocol.require(filled == size, "it sends %d of %d bytes" % (filled, size))
        return bytes(data)
