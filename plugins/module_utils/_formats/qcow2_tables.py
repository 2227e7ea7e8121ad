# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""qcow2's two tables of names: internal snapshots, and the directory of persistent dirty bitmaps."""

from __future__ import annotations

import struct

from ansible_collections.platter.qemu.plugins.module_utils._core import header
from ansible_collections.platter.qemu.plugins.module_utils._formats import reading

_SNAPSHOT = struct.Struct(">QIHHIIQII")
_BITMAPS = struct.Struct(">IIQQ")
_BITMAP = struct.Struct(">QIIBBHI")
#: What is read of each table at most. QEMU's own bounds (1 GiB, 64 MiB) are no bounds for hostile images.
SNAPSHOT_TABLE_LIMIT = 384 * 1024
BITMAP_DIRECTORY_LIMIT = 256 * 1024
_SNAPSHOT_EXTRA_LIMIT = 1024
_BITMAP_NAME_LIMIT = 1023
_NO_ICOUNT = 2**64 - 1
_IN_USE, _AUTO = 1, 2
#: bits 9-55 of an L1 entry are the offset of its L2 table; bit 63 only says whether that may be written in place
L2_OFFSET = 0x00FF_FFFF_FFFF_FE00


def last_l2_table(source: header.ByteSource, l1_offset: int, l1_size: int) -> int:
    """The highest offset that the L1 table leads to, 0 for none. QEMU writes a whole L2 table before that entry."""
    entries = struct.unpack(">%dQ" % l1_size, reading.exactly(source, l1_offset, 8 * l1_size, "the L1 table"))
    return max((entry & L2_OFFSET for entry in entries), default=0)


def read_snapshots(
    source: header.ByteSource, offset: int, count: int, virtual_size: int
) -> tuple[header.InternalSnapshot, ...]:
    found, at = [], offset
    for _index in range(count):
        snapshot, at = _read_snapshot(source, at, virtual_size)
        found.append(snapshot)
        reading.require(at - offset <= SNAPSHOT_TABLE_LIMIT, "the snapshot table is larger than is read here")
    return tuple(found)


def _read_snapshot(source: header.ByteSource, at: int, virtual_size: int) -> tuple[header.InternalSnapshot, int]:
    """The entry at C(at), and where the next one begins (a multiple of 8)."""
    head = _SNAPSHOT.unpack(reading.exactly(source, at, _SNAPSHOT.size, "the snapshot table"))
    _l1_offset, _l1_size, id_size, name_size, date_sec, date_nsec, clock, state_size, extra_size = head
    reading.require(extra_size <= _SNAPSHOT_EXTRA_LIMIT, f"a snapshot with {extra_size} bytes of extra data")
    rest = reading.exactly(source, at + _SNAPSHOT.size, extra_size + id_size + name_size, "the snapshot table")
    extra, names = rest[:extra_size], rest[extra_size:]
    snapshot = header.InternalSnapshot(
        id=reading.text(names[:id_size]),
        name=reading.text(names[id_size:]),
        vm_state_size=_extra_number(extra, 0, state_size),
        date_sec=date_sec,
        date_nsec=date_nsec,
        vm_clock_nsec=clock,
        icount=_icount(extra),
        virtual_size=_extra_number(extra, 1, virtual_size),
    )
    return snapshot, at + -(-(_SNAPSHOT.size + len(rest)) // 8) * 8


def _extra_number(extra: bytes, index: int, otherwise: int) -> int:
    """The 64-bit number of that index in the extra data; older QEMU wrote fewer of them."""
    if len(extra) < 8 * (index + 1):
        return otherwise
    return int.from_bytes(extra[8 * index : 8 * (index + 1)], "big")


def _icount(extra: bytes) -> int | None:
    value = _extra_number(extra, 2, _NO_ICOUNT)
    return None if value == _NO_ICOUNT else value


def read_bitmaps(source: header.ByteSource, extension: bytes) -> tuple[header.Bitmap, ...]:
    reading.require(len(extension) == _BITMAPS.size, f"a bitmaps extension of {len(extension)} bytes")
    count, reserved, size, offset = _BITMAPS.unpack(extension)
    reading.require(not reserved and count, "a malformed bitmaps extension")
    reading.require(size <= BITMAP_DIRECTORY_LIMIT, "the bitmap directory is larger than is read here")
    directory = reading.exactly(source, offset, size, "the bitmap directory")
    found, at = [], 0
    for _index in range(min(count, size // _BITMAP.size)):
        bitmap, at = _read_bitmap(directory, at)
        found.append(bitmap)
    reading.require(at == size and len(found) == count, "the bitmap directory does not agree with its size")
    return tuple(found)


def _read_bitmap(directory: bytes, at: int) -> tuple[header.Bitmap, int]:
    reading.require(at + _BITMAP.size <= len(directory), "a bitmap entry is cut off")
    _table, _entries, flags, kind, bits, name_size, extra_size = _BITMAP.unpack_from(directory, at)
    reading.require(kind == 1 and not flags & ~(_IN_USE | _AUTO) and not extra_size, "a bitmap of an unknown kind")
    reading.require(9 <= bits <= 31, f"a bitmap of granularity 2^{bits}")
    begin = at + _BITMAP.size
    reading.require(
        0 < name_size <= _BITMAP_NAME_LIMIT and begin + name_size <= len(directory), "a bitmap name is too long"
    )
    names = tuple(name for bit, name in ((_IN_USE, "in-use"), (_AUTO, "auto")) if flags & bit)
    bitmap = header.Bitmap(reading.text(directory[begin : begin + name_size]), 1 << bits, names)
    return bitmap, at + -(-(_BITMAP.size + name_size) // 8) * 8
