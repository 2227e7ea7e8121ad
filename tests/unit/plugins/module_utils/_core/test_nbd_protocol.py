"""NBD's bytes: what servers may say is read, and everything else is a WireError and nothing but that."""

from __future__ import annotations

import struct
from typing import Any, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, nbd_commands, nbd_protocol

INFO_EXPORT = struct.pack(">HQH", 0, 1 << 20, 0b11)
GREETING = b"NBDMAGICIHAVEOPT\0\3"

READERS: dict[str, tuple[Callable[[bytes], Any], int | None]] = {
    "greeting": (nbd_protocol.greeting, nbd_protocol.GREETING_SIZE),
    "option_reply": (lambda data: nbd_protocol.option_reply(data, 3), nbd_protocol.OPTION_HEADER_SIZE),
    "listed": (nbd_protocol.listed, None),
    "export": (lambda data: nbd_protocol.export("", [INFO_EXPORT, data]), None),
    "context": (nbd_protocol.context, None),
    "magic": (nbd_commands.is_structured, 4),
    "simple_reply": (lambda data: nbd_commands.check_simple_reply(data, 1), nbd_commands.SIMPLE_REPLY_SIZE),
    "structured": (lambda data: nbd_commands.structured_reply(data, 1, 512), nbd_commands.STRUCTURED_REPLY_SIZE),
}


def wrong(reader: Callable[[bytes], Any], data: bytes) -> errors.WireError:
    with pytest.raises(errors.WireError) as raised:
        reader(data)
    return raised.value


@pytest.mark.parametrize("which", READERS)
@given(data=st.data())
def test_any_bytes_are_a_value_or_a_wire_error(which: str, data: st.DataObject) -> None:
    reader, size = READERS[which]
    drawn = data.draw(st.binary(max_size=64) if size is None else st.binary(min_size=size, max_size=size))
    try:
        reader(drawn)
    except errors.WireError as exc:
        assert exc.message


@given(kind=st.integers(0, 4), body=st.binary(max_size=32))
def test_any_information_of_a_known_kind(kind: int, body: bytes) -> None:
    try:
        found = nbd_protocol.export("x", [INFO_EXPORT, struct.pack(">H", kind) + body])
    except errors.WireError:
        return
    assert 0 <= found.size <= nbd_protocol.MAX_SIZE
    assert found.block_size is None or 0 < found.block_size.minimum <= found.block_size.preferred


@given(
    kind=st.sampled_from([0, 1, 2, 3, 1 << 15, (1 << 15) + 2, 77]),
    body=st.binary(max_size=24),
    offset=st.integers(0, 1 << 63),
)
def test_no_piece_is_put_outside_of_the_answer(kind: int, body: bytes, offset: int) -> None:
    into = bytearray(8)
    try:
        filled = nbd_commands.place_chunk(nbd_commands.Chunk(True, kind, len(body)), body, offset, into)
    except errors.WireError:
        filled = 0
    assert (len(into), filled <= 8) == (8, True)


# --- handshake


@pytest.mark.parametrize(("flags", "answer"), [(1, 1), (3, 3), (0xFFFF, 3)])
def test_the_greeting_is_answered_with_the_flags_that_both_know(flags: int, answer: int) -> None:
    assert nbd_protocol.greeting(b"NBDMAGICIHAVEOPT" + struct.pack(">H", flags)) == answer
    assert nbd_protocol.client_flags(answer) == struct.pack(">I", answer)


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1 De", "does not speak NBD"),
        (b"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53\0\0", "oldstyle"),
        (b"NBDMAGICIHAVEOPT\0\0", "fixed"),
        (b"NBDMAGICIHAVEOPT\0\2", "fixed"),
    ],
)
def test_only_fixed_newstyle_is_spoken(data: bytes, fact: str) -> None:
    assert fact in wrong(nbd_protocol.greeting, data[:18]).message


def header(option: int = 3, kind: int = 1, length: int = 0, magic: int = 0x3E889045565A9) -> bytes:
    return struct.pack(">QIII", magic, option, kind, length)


def test_answers_to_options() -> None:
    assert nbd_protocol.option_reply(header(), 3) == nbd_protocol.OptionReply(1, 0)
    assert nbd_protocol.option_reply(header(kind=(1 << 31) + 6), 3).error == "unknown"
    assert nbd_protocol.option_reply(header(kind=(1 << 31) + 5), 3).error == "tls_required"
    assert nbd_protocol.option_reply(header(kind=(1 << 31) + 99), 3).error == "unknown_error"
    assert nbd_protocol.option_reply(header(kind=2), 3).error is None


@pytest.mark.parametrize("data", [header(option=6), header(magic=1), header(length=8197), header(length=1 << 31)])
def test_answers_that_are_none(data: bytes) -> None:
    wrong(lambda given: nbd_protocol.option_reply(given, 3), data)


@given(name=st.binary(max_size=50), description=st.binary(max_size=50))
def test_a_listed_export_keeps_its_bytes(name: bytes, description: bytes) -> None:
    found = nbd_protocol.listed(struct.pack(">I", len(name)) + name + description)
    assert found.name.encode("utf-8", "surrogateescape") == name
    assert found.description.encode("utf-8", "surrogateescape") == description
    assert nbd_protocol.info_request(found.name)[4 : 4 + len(name)] == name


@pytest.mark.parametrize("length", [4097, 5, 0xFFFFFFFF])
def test_a_name_is_no_longer_than_what_holds_it(length: int) -> None:
    wrong(nbd_protocol.listed, struct.pack(">I", length) + b"name")


def test_what_is_said_of_an_export() -> None:
    infos = [
        INFO_EXPORT,
        struct.pack(">HIII", 3, 512, 4096, 1 << 25),
        b"\0\1canonical",
        b"\0\2what it is",
        b"\0\x63of the future",
    ]
    assert nbd_protocol.export("", infos) == nbd_protocol.Export(
        "", 1 << 20, 3, nbd_protocol.BlockSize(512, 4096, 1 << 25), "canonical", "what it is"
    )


@pytest.mark.parametrize(
    "info",
    [
        b"",
        b"\0",
        struct.pack(">HQH", 0, 1 << 63, 1),
        struct.pack(">HIII", 3, 0, 4096, 1 << 25),
        struct.pack(">HIII", 3, 3, 4096, 1 << 25),
        struct.pack(">HIII", 3, 1 << 17, 1 << 18, 1 << 25),
        struct.pack(">HIII", 3, 4096, 512, 1 << 25),
        struct.pack(">HIII", 3, 4096, 4096, 512),
    ],
)
def test_what_no_export_is(info: bytes) -> None:
    wrong(lambda given: nbd_protocol.export("", [INFO_EXPORT, given]), info)


def test_an_export_without_a_size_is_none() -> None:
    assert "size" in wrong(lambda given: nbd_protocol.export("", [given]), b"\0\1name").message


def test_flags_by_name() -> None:
    assert {name for name, so in nbd_protocol.flag_facts(0b111).items() if so} == {"read_only", "can_flush"}
    assert not any(nbd_protocol.flag_facts(0xFFFE).values())


# --- commands


def piece(flags: int, kind: int, length: int, handle: int = 1) -> bytes:
    return struct.pack(">IHHQI", 0x668E33EF, flags, kind, handle, length)


def test_pieces_of_an_answer() -> None:
    into = bytearray(b"\xff" * 16)
    data = nbd_commands.structured_reply(piece(0, 1, 12), 1, 16)
    assert nbd_commands.place_chunk(data, struct.pack(">Q", 100) + b"abcd", 100, into) == 4
    hole = nbd_commands.structured_reply(piece(1, 2, 12), 1, 16)
    assert nbd_commands.place_chunk(hole, struct.pack(">QI", 104, 12), 100, into) == 12
    assert (hole.done, bytes(into)) == (True, b"abcd" + bytes(12))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (1, struct.pack(">Q", 99) + b"abcd"),
        (1, struct.pack(">Q", 114) + b"abcd"),
        (1, struct.pack(">Q", 100)),
        (2, struct.pack(">QI", 100, 1 << 31)),
        (2, struct.pack(">QI", 101, 16)),
        (2, struct.pack(">QI", 100, 0)),
        (5, struct.pack(">Q", 100) + b"abcd"),
    ],
)
def test_a_piece_that_was_not_asked_for(kind: int, body: bytes) -> None:
    chunk = nbd_commands.Chunk(True, kind, len(body))
    wrong(lambda given: nbd_commands.place_chunk(chunk, given, 100, bytearray(16)), body)


@pytest.mark.parametrize("data", [piece(1, 1, 1 << 31), piece(1, 1, 12, handle=2), piece(0, 0, 0), piece(1, 0, 4)])
def test_a_piece_that_is_none(data: bytes) -> None:
    wrong(lambda given: nbd_commands.structured_reply(given, 1, 16), data)


def test_errors_of_commands_say_their_number() -> None:
    simple = struct.pack(">IIQ", 0x67446698, 5, 1)
    assert wrong(lambda given: nbd_commands.check_simple_reply(given, 1), simple).facts == {"errno": 5}
    chunk = nbd_commands.Chunk(True, (1 << 15) + 1, 9)
    said = wrong(
        lambda given: nbd_commands.place_chunk(chunk, given, 0, bytearray(4)), struct.pack(">IH3s", 5, 3, b"bad")
    )
    assert said.facts == {"errno": 5}
