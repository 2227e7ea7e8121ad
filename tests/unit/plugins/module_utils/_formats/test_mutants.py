"""Whatever the bytes: a reader gives a Header or a HeaderError, and reads little."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import HeaderError
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._formats.info import to_qemu_info
from ansible_collections.platter.qemu.plugins.module_utils._formats.registry import (
    FORMAT_NAMES,
    detect,
    foreign_signatures,
    read_header,
)
from ansible_collections.platter.qemu.tests.lab.headers import descriptor, every_format, qcow2, vmdk
from ansible_collections.platter.qemu.tests.lab.mutants import mutants
from ansible_collections.platter.qemu.tests.lab.sources import BUDGET, MemorySource

MUTANTS = 2_000


def _read(format: str, source: MemorySource) -> Header | None:
    """None for a HeaderError that the reader raised by itself; the source raises only beyond its budget."""
    try:
        header = read_header(format, source)
    except HeaderError as exc:
        assert "budget" not in exc.message
        return None
    to_qemu_info(header, filename="image", actual_size=0)
    return header


def test_mutants_are_read_or_refused() -> None:
    read = refused = 0
    for name, format, data in mutants(20, MUTANTS):
        source = MemorySource(data)
        header = _read(format, source)
        assert header is None or header.format == format, name
        assert header is None or 0 <= header.virtual_size < 1 << 63, name
        read, refused = read + (header is not None), refused + (header is None)
    assert read > MUTANTS // 4
    assert refused > MUTANTS // 4


@given(st.sampled_from(FORMAT_NAMES), st.binary(max_size=600), st.binary(max_size=600))
def test_any_bytes_are_read_or_refused(format: str, first: bytes, last: bytes) -> None:
    _read(format, MemorySource(first + last))
    detect(first, last)
    foreign_signatures(first, last)


@given(st.sampled_from(sorted(every_format())), st.integers(0, 5000))
def test_every_cut_is_read_or_refused(name: str, length: int) -> None:
    format, data = every_format()[name]
    _read(format, MemorySource(data[:length]))


@given(st.binary(max_size=400))
def test_any_descriptor_is_read_or_refused(text: bytes) -> None:
    _read("vmdk", MemorySource(descriptor("", create_type="vmfs") + text))


def _with_fields(data: bytes, *fields: tuple[int, bytes]) -> bytes:
    changed = bytearray(data)
    for at, value in fields:
        changed[at : at + len(value)] = value
    return bytes(changed)


#: Counts and sizes as large as their fields, where the file goes on for as long as they say.
GREEDY = {
    "snapshots": ("qcow2", _with_fields(qcow2(), (60, b"\xff" * 4), (64, (4096).to_bytes(8, "big")))),
    "long snapshots": (
        "qcow2",
        _with_fields(qcow2().ljust(1 << 20, b"\xff"), (60, b"\xff" * 4), (64, bytes(5) + b"\1\0\0")),
    ),
    "extensions": ("qcow2", _with_fields(qcow2(cluster_bits=21), (104, b"\0\0\0\1\0\0\0\0" * 100_000))),
    "a long extension": ("qcow2", _with_fields(qcow2(cluster_bits=21), (104, b"DATA\0\x1f\0\0"))),
    "bitmaps": (
        "qcow2",
        qcow2(
            autoclear=1,
            extensions=((0x23852875, (2**32 - 1).to_bytes(4, "big") + bytes(4) + bytes(4) + b"\x04\0\0\0" + bytes(8)),),
        ),
    ),
    "a descriptor of line ends": ("vmdk", descriptor("", create_type="vmfs") + b"\n" * 500_000),
    "a descriptor of extents": ("vmdk", descriptor('RW 1 FLAT "x" 0\n' * 30_000, create_type="twoGbMaxExtentFlat")),
    "a descriptor of one line": ("vmdk", descriptor("RW " + "1" * 500_000, create_type="vmfs")),
    "a descriptor of blanks": ("vmdk", descriptor("RW" + " \n" * 200_000, create_type="vmfs")),
    "a descriptor of many RW": ("vmdk", descriptor("RW\n" * 150_000, create_type="vmfs")),
    "a descriptor of ddb": ("vmdk", descriptor("ddb." * 120_000, create_type="vmfs")),
    "a descriptor without end": ("vmdk", descriptor("#" * 2_000_000, create_type="vmfs")),
    "an embedded one without end": ("vmdk", vmdk(text=b"#" * 2_000_000, capacity=0)),
}


@pytest.mark.parametrize("name", GREEDY)
def test_hostile_counts_cost_nothing(name: str) -> None:
    format, data = GREEDY[name]
    source = MemorySource(data, length=1 << 50 if format == "qcow2" else None)
    begin = time.process_time()
    _read(format, source)
    assert time.process_time() - begin < 1.0
    assert source.budget > 0


@pytest.mark.parametrize(
    ("name", "limit"), [("qcow2", 8192), ("vdi", 1024), ("vpc", 4096), ("luks", 1024), ("qed", 128)]
)
def test_a_plain_image_costs_few_bytes(name: str, limit: int) -> None:
    format, data = every_format()[name]
    source = MemorySource(data)
    read_header(format, source)
    assert BUDGET - source.budget <= limit
