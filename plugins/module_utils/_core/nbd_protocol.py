# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""The handshake of NBD as bytes and values: fixed newstyle, as the NBD project writes it down (C(doc/proto.md)).

Everything a server sends is taken for hostile: each length has a limit, and what breaks the protocol is a WireError.
Pure: C(_tools/nbd_client.py) does the talking.
"""

from __future__ import annotations

import struct
import typing as t
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._core import errors

GREETING_SIZE = 18
OPTION_HEADER_SIZE = 20
#: "SHOULD be no more than 4096 bytes", of names and of other texts
MAX_STRING = 4096
#: the longest answer to an option: a name and its description with the length between them
MAX_OPTION_PAYLOAD = 4 + 2 * MAX_STRING
MAX_SIZE = (1 << 63) - 1
MAX_MINIMUM_BLOCK = 64 << 10

_NBDMAGIC, _IHAVEOPT, _OLDSTYLE = b"NBDMAGIC", b"IHAVEOPT", bytes.fromhex("0000420281861253")
_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2
_OPTION_REPLY = 0x0003E889045565A9

OPT_ABORT, OPT_LIST, OPT_STARTTLS, OPT_INFO, OPT_GO, OPT_STRUCTURED_REPLY, OPT_LIST_META_CONTEXT = 2, 3, 5, 6, 7, 8, 9
REP_ACK, REP_SERVER, REP_INFO, REP_META_CONTEXT = 1, 2, 3, 4
_ERROR = 1 << 31
_ERRORS = {
    1: "unsupported",
    2: "policy",
    3: "invalid",
    4: "platform",
    5: "tls_required",
    6: "unknown",
    7: "shutdown",
    8: "block_size_required",
    9: "too_big",
    10: "extended_headers_required",
}
_INFO_EXPORT, _INFO_NAME, _INFO_DESCRIPTION, _INFO_BLOCK_SIZE = 0, 1, 2, 3

_HAS_FLAGS = 1
#: the transmission flags by the names that libnbd gives them, without those that count only with extended headers, which
#: this client does not ask for (bit 12)
_FLAGS = {
    "read_only": 1 << 1,
    "can_flush": 1 << 2,
    "can_fua": 1 << 3,
    "rotational": 1 << 4,
    "can_trim": 1 << 5,
    "can_zero": 1 << 6,
    "can_df": 1 << 7,
    "can_multi_conn": 1 << 8,
    "can_cache": 1 << 10,
    "can_fast_zero": 1 << 11,
}


@dataclass(frozen=True)
class BlockSize:
    """What requests must or should be multiples of, and how long they may be, in bytes."""

    minimum: int
    preferred: int
    maximum: int


@dataclass(frozen=True)
class Listed:
    """An export as a server lists it. Bytes that are not UTF-8 survive as surrogates."""

    name: str
    description: str = ""


@dataclass(frozen=True)
class Export:
    """What a server says of one export. C(size) in bytes; C(block_size) None where it does not say.

    C(canonical_name), C(description): empty where it does not say.
    """

    name: str
    size: int
    flags: int
    block_size: t.Optional[BlockSize] = None
    canonical_name: str = ""
    description: str = ""


@dataclass(frozen=True)
class OptionReply:
    """One answer to an option. C(error): the name of the protocol's error code, None for none."""

    type: int
    length: int

    @property
    def error(self) -> t.Optional[str]:
        """What kind of no it is."""
        return _ERRORS.get(self.type - _ERROR, "unknown_error") if self.type & _ERROR else None


def require(condition: t.Any, sentence: str) -> None:
    """The one way to say that bytes break the protocol."""
    if not condition:
        raise errors.WireError(sentence)


def flag_facts(flags: int) -> t.Dict[str, bool]:
    """All flags by name; without NBD_FLAG_HAS_FLAGS none of the others counts."""
    return {name: bool(flags & _HAS_FLAGS and flags & bit) for name, bit in _FLAGS.items()}


# --- handshake


def greeting(data: bytes) -> int:
    """The client's flags that answer a server's greeting. Raises WireError for anything but fixed newstyle."""
    require(data[:8] == _NBDMAGIC, "what is there does not speak NBD")
    require(data[8:16] != _OLDSTYLE, "it speaks the oldstyle protocol, which has no exports and no TLS")
    require(data[8:16] == _IHAVEOPT, "what is there does not speak NBD")
    (flags,) = struct.unpack(">H", data[16:GREETING_SIZE])
    require(
        flags & _FIXED_NEWSTYLE, "it speaks the newstyle protocol without its fixed form, which allows no questions"
    )
    return int(flags) & (_FIXED_NEWSTYLE | _NO_ZEROES)


def client_flags(flags: int) -> bytes:
    """The answer to the greeting."""
    return struct.pack(">I", flags)


def option(number: int, data: bytes = b"") -> bytes:
    """An option as the client sends it."""
    return _IHAVEOPT + struct.pack(">II", number, len(data)) + data


def option_reply(data: bytes, number: int) -> OptionReply:
    """The header of an answer to the option C(number)."""
    magic, answered, kind, length = struct.unpack(">QIII", data)
    require(magic == _OPTION_REPLY, "an answer to an option does not begin as one")
    require(answered == number, "it answers option %d when asked for %d" % (answered, number))
    require(length <= MAX_OPTION_PAYLOAD, "an answer of %d bytes to option %d" % (length, number))
    return OptionReply(kind, length)


def listed(data: bytes) -> Listed:
    """One entry of the list of exports (NBD_REP_SERVER)."""
    name, rest = _counted(data)
    require(len(rest) <= MAX_STRING, "a description of %d bytes" % len(rest))
    return Listed(_text(name), _text(rest))


def info_request(name: str) -> bytes:
    """The data of NBD_OPT_INFO and NBD_OPT_GO: everything there is to know."""
    wanted = (_INFO_NAME, _INFO_DESCRIPTION, _INFO_BLOCK_SIZE)
    return _count(name) + struct.pack(">H%dH" % len(wanted), len(wanted), *wanted)


def export(name: str, infos: t.Iterable[bytes]) -> Export:
    """What the answers to C(info_request) say together (the payloads of NBD_REP_INFO); unknown ones do not count."""
    known: t.Dict[str, t.Any] = {}
    for data in infos:
        require(len(data) >= 2, "a piece of information without a type")
        kind, rest = struct.unpack(">H", data[:2])[0], data[2:]
        if kind in _READERS:
            known.update(_READERS[kind](rest))
    require("size" in known, "it says nothing of the size of the export")
    return Export(name, **known)


def _read_export(data: bytes) -> t.Dict[str, t.Any]:
    require(len(data) == 10, "the size of an export in %d bytes" % len(data))
    size, flags = struct.unpack(">QH", data)
    require(size <= MAX_SIZE, "an export of %d bytes" % size)
    return {"size": size, "flags": flags}


def _read_block_size(data: bytes) -> t.Dict[str, t.Any]:
    require(len(data) == 12, "block sizes in %d bytes" % len(data))
    sizes = BlockSize(*struct.unpack(">III", data))
    sound = (
        0 < sizes.minimum <= min(sizes.preferred, MAX_MINIMUM_BLOCK)
        and not sizes.minimum & (sizes.minimum - 1)
        and sizes.maximum >= sizes.minimum
    )
    require(sound, "block sizes of %d, %d and %d bytes" % (sizes.minimum, sizes.preferred, sizes.maximum))
    return {"block_size": sizes}


def _read_name(data: bytes) -> t.Dict[str, t.Any]:
    require(len(data) <= MAX_STRING, "a name of %d bytes" % len(data))
    return {"canonical_name": _text(data)}


def _read_description(data: bytes) -> t.Dict[str, t.Any]:
    require(len(data) <= MAX_STRING, "a description of %d bytes" % len(data))
    return {"description": _text(data)}


_READERS: t.Dict[int, t.Callable[[bytes], t.Dict[str, t.Any]]] = {
    _INFO_EXPORT: _read_export,
    _INFO_NAME: _read_name,
    _INFO_DESCRIPTION: _read_description,
    _INFO_BLOCK_SIZE: _read_block_size,
}


def contexts_request(name: str) -> bytes:
    """The data of NBD_OPT_LIST_META_CONTEXT without a query: all that there are."""
    return _count(name) + struct.pack(">I", 0)


def context(data: bytes) -> str:
    """The name of one metadata context (NBD_REP_META_CONTEXT)."""
    require(4 <= len(data) <= 4 + MAX_STRING, "a metadata context of %d bytes" % len(data))
    return _text(data[4:])


def error_text(data: bytes) -> str:
    """What the server says with its no."""
    return _text(data[:MAX_STRING])


# --- pieces


def _counted(data: bytes) -> t.Tuple[bytes, bytes]:
    """(name, what follows) of a name with its length before it."""
    require(len(data) >= 4, "a name without a length")
    (length,) = struct.unpack(">I", data[:4])
    require(length <= min(MAX_STRING, len(data) - 4), "a name of %d bytes" % length)
    return data[4 : 4 + length], data[4 + length :]


def _count(name: str) -> bytes:
    data = name.encode("utf-8", "surrogateescape")
    return struct.pack(">I", len(data)) + data


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
