"""What the qcow2 reader makes of single fields, where no qemu-img is needed to know."""

from __future__ import annotations

import struct

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import HeaderError
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Bitmap, Header, Reference
from ansible_collections.platter.qemu.plugins.module_utils._formats.info import to_qemu_info
from ansible_collections.platter.qemu.plugins.module_utils._formats.registry import read_header
from ansible_collections.platter.qemu.tests.lab.headers import (
    qcow2,
)
from ansible_collections.platter.qemu.tests.lab.sources import MemorySource

MIB = 1 << 20


def read(format: str, data: bytes) -> Header:
    return read_header(format, MemorySource(data))


def put(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def test_a_name_that_is_not_utf8_survives() -> None:
    name = b"/images/\xff\xfe.raw".decode("utf-8", "surrogateescape")
    assert read("qcow2", qcow2(backing=name)).backing_file == name


def test_a_name_ends_at_a_zero_byte() -> None:
    assert read("qcow2", qcow2(backing="good\0/etc/hostname")).backing_file == "good"


def test_unknown_features_have_the_names_that_the_image_gives_them() -> None:
    names = ((0, 6, "future thing"), (1, 5, "compatible one"), (0, 0, "dirty bit"))
    assert read("qcow2", qcow2(incompatible=0b1100000, feature_names=names)).unknown_features == (
        "bit 5",
        "future thing",
    )


def test_known_features_are_not_unknown() -> None:
    assert read("qcow2", qcow2(incompatible=3)).unknown_features == ()


def test_dirty_and_corrupt_are_told_apart() -> None:
    facts = [(h.dirty, h.corrupt) for h in (read("qcow2", qcow2(incompatible=bits)) for bits in (0, 1, 2))]
    assert facts == [(False, False), (True, False), (False, True)]


def test_a_data_file_is_a_reference_even_without_its_bit() -> None:
    data = qcow2(data_file="/etc/hostname")
    header = read("qcow2", put(data, 79, b"\0"))
    assert header.references == (Reference("data_file", "/etc/hostname"),)


def test_a_data_file_bit_without_a_name_is_a_reference_too() -> None:
    assert read("qcow2", qcow2(incompatible=4)).references == (Reference("data_file", ""),)


def _bitmap(name: bytes, flags: int, bits: int) -> bytes:
    entry = struct.pack(">QIIBBHI", 0, 0, flags, 1, bits, len(name), 0) + name
    return entry.ljust(-(-len(entry) // 8) * 8, b"\0")


def _with_bitmaps(directory: bytes, count: int, autoclear: int = 1) -> bytes:
    extension = struct.pack(">IIQQ", count, 0, len(directory), 4 * 4096)
    return qcow2(autoclear=autoclear, extensions=((0x23852875, extension),)) + directory


def test_bitmaps_are_read_with_their_flags() -> None:
    directory = _bitmap(b"one", 2, 16) + _bitmap(b"a longer name", 1, 9)
    expected = (Bitmap("one", 65536, ("auto",)), Bitmap("a longer name", 512, ("in-use",)))
    assert read("qcow2", _with_bitmaps(directory, 2)).bitmaps == expected


def test_bitmaps_are_void_after_a_write_by_an_older_qemu() -> None:
    assert read("qcow2", _with_bitmaps(_bitmap(b"one", 2, 16), 1, autoclear=0)).bitmaps == ()


@pytest.mark.parametrize(
    ("directory", "count"),
    [
        (_bitmap(b"one", 2, 16), 2),
        (_bitmap(b"one", 2, 16) * 2, 1),
        (_bitmap(b"one", 4, 16), 1),
        (_bitmap(b"one", 2, 8), 1),
        (_bitmap(b"", 2, 16), 1),
        (_bitmap(b"one", 2, 16)[:20], 1),
    ],
)
def test_a_bitmap_directory_that_does_not_add_up_is_an_error(directory: bytes, count: int) -> None:
    with pytest.raises(HeaderError):
        read("qcow2", _with_bitmaps(directory, count))


def _snapshot(extra: bytes, state_size: int = 7) -> bytes:
    head = struct.pack(">QIHHIIQII", 0, 0, 1, 4, 1_700_000_000, 5, 3_000_000_007, state_size, len(extra))
    entry = head + extra + b"1name"
    return entry.ljust(-(-len(entry) // 8) * 8, b"\0")


def _with_snapshots(table: bytes, count: int) -> bytes:
    return put(qcow2(), 60, struct.pack(">IQ", count, 4 * 4096)) + table


@pytest.mark.parametrize(
    ("extra", "facts"),
    [
        (b"", (7, MIB, None)),
        (struct.pack(">Q", 9), (9, MIB, None)),
        (struct.pack(">QQ", 9, 512), (9, 512, None)),
        (struct.pack(">QQQ", 9, 512, 11), (9, 512, 11)),
        (struct.pack(">QQQ", 9, 512, 2**64 - 1), (9, 512, None)),
    ],
)
def test_snapshots_of_every_age_are_read(extra: bytes, facts: tuple[int, int, int | None]) -> None:
    (snapshot,) = read("qcow2", _with_snapshots(_snapshot(extra), 1)).snapshots
    assert (snapshot.vm_state_size, snapshot.virtual_size, snapshot.icount) == facts
    assert (snapshot.id, snapshot.name, snapshot.vm_clock_nsec) == ("1", "name", 3_000_000_007)


def test_the_clock_of_a_snapshot_is_printed_in_two_parts() -> None:
    info = to_qemu_info(read("qcow2", _with_snapshots(_snapshot(b""), 1)), filename="x", actual_size=0)
    assert (info["snapshots"][0]["vm-clock-sec"], info["snapshots"][0]["vm-clock-nsec"]) == (3, 7)


@pytest.mark.parametrize(
    "data",
    [
        put(qcow2(), 7, b"\4"),
        put(qcow2(), 23, b"\x08"),
        put(qcow2(), 23, b"\x16"),
        put(qcow2(), 32, b"\0\0\0\3"),
        put(qcow2(), 99, b"\7"),
        put(qcow2(), 100, b"\0\0\0\x48"),
        put(qcow2(), 36, bytes(4)),
        put(qcow2(), 56, bytes(4)),
        put(qcow2(backing="x"), 8, struct.pack(">Q", 4097)),
        put(qcow2(backing="x"), 16, struct.pack(">I", 1024)),
        qcow2(extensions=((0xE2792ACA, b"x" * 16),)),
        qcow2(extensions=((0x0537BE77, bytes(16)),)),
        qcow2(incompatible=8),
        put(qcow2(version=2), 72, b"\0\0\0\1\xff\xff\xff\xff"),
    ],
    ids=[
        "version",
        "small clusters",
        "large clusters",
        "cipher",
        "refcounts",
        "header length",
        "L1 size",
        "no refcounts",
        "name offset",
        "name length",
        "format length",
        "crypto extension",
        "no compression type",
        "extension length",
    ],
)
def test_malformed_qcow2_is_an_error(data: bytes) -> None:
    with pytest.raises(HeaderError):
        read("qcow2", data)
