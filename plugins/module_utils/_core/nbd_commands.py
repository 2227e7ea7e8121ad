# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Commands of NBD after the handshake as bytes and values: reads, answered simply or in pieces (structured). Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, nbd_protocol

_REQUEST, _SIMPLE, _STRUCTURED = 0x25609513, 0x67446698, 0x668E33EF
CMD_READ, CMD_DISC = 0, 2
SIMPLE_REPLY_SIZE, STRUCTURED_REPLY_SIZE = 16, 20
_CHUNK_DONE = 1
_CHUNK_NONE, _CHUNK_DATA, _CHUNK_HOLE, _CHUNK_ERROR = 0, 1, 2, 1 << 15


@dataclass(frozen=True)
class Chunk:
    """The header of one piece of an answer to a read."""

    done: bool
    type: int
    length: int


def request(command: int, handle: int, offset: int = 0, length: int = 0) -> bytes:
    """A command as the client sends it."""
    return struct.pack(">IHHQQI", _REQUEST, 0, command, handle, offset, length)


def is_structured(magic: bytes) -> bool:
    """Which kind of answer begins with these four bytes."""
    (found,) = struct.unpack(">I", magic)
    nbd_protocol.require(found in (_SIMPLE, _STRUCTURED), "an answer to a command does not begin as one")
    return bool(found == _STRUCTURED)


def check_simple_reply(data: bytes, handle: int) -> None:
    """Raises WireError, with C(errno) for what the server says is an error."""
    _magic, error, answered = struct.unpack(">IIQ", data)
    nbd_protocol.require(answered == handle, "it answers a command that it was not given")
    if error:
        raise errors.WireError("error %d" % error, errno=error)


def structured_reply(data: bytes, handle: int, most: int) -> Chunk:
    """The header of a piece. C(most): the bytes that were asked for."""
    _magic, flags, kind, answered, length = struct.unpack(">IHHQI", data)
    nbd_protocol.require(answered == handle, "it answers a command that it was not given")
    nbd_protocol.require(
        length <= max(most + 8, 8 + nbd_protocol.MAX_STRING), "a piece of %d bytes of %d" % (length, most)
    )
    nbd_protocol.require(
        kind != _CHUNK_NONE or (flags & _CHUNK_DONE and not length), "an empty piece that is not the last"
    )
    return Chunk(bool(flags & _CHUNK_DONE), kind, length)


def place_chunk(chunk: Chunk, data: bytes, offset: int, into: bytearray) -> int:
    """Put a piece where it belongs in the answer to a read at C(offset). Returns how many bytes it holds.

    Raises WireError for a piece outside of it, and with C(errno) for what the server says is an error.
    """
    if chunk.type == _CHUNK_NONE:
        return 0
    if chunk.type & _CHUNK_ERROR:
        raise errors.WireError("error %d" % _chunk_error(data), errno=_chunk_error(data))
    nbd_protocol.require(
        chunk.type in (_CHUNK_DATA, _CHUNK_HOLE) and len(data) >= 8, "a piece of the unknown kind %d" % chunk.type
    )
    start = struct.unpack(">Q", data[:8])[0] - offset
    if chunk.type == _CHUNK_HOLE:
        nbd_protocol.require(len(data) == 12, "a hole in %d bytes" % len(data))
        piece = bytes(_within(start, struct.unpack(">I", data[8:])[0], len(into)))
    else:
        piece = data[8:]
    into[start : start + _within(start, len(piece), len(into))] = piece
    return len(piece)


def _within(start: int, size: int, length: int) -> int:
    nbd_protocol.require(start >= 0 and 0 < size <= length - start, "a piece that was not asked for")
    return size


def _chunk_error(data: bytes) -> int:
    nbd_protocol.require(len(data) >= 6, "an error in %d bytes" % len(data))
    return int(struct.unpack(">I", data[:4])[0])
