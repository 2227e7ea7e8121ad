# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Partition tables: MBR and GPT, and where the last partition ends."""

from __future__ import annotations

import struct
import typing as t
import uuid
import zlib

from ansible_collections.platter.qemu.plugins.module_utils._core.size import round_up
from ansible_collections.platter.qemu.plugins.module_utils._inspect import signature

_PROTECTIVE = 0xEE
#: Eight times what everybody makes.
_LARGEST_TABLE = 1 << 17


def _gpt(view: signature.View) -> signature.Signature | None:
    """GPT: the header in the second sector, or its copy in the last one."""
    for sector in (512, 4096):
        for at in (sector, view.length // sector * sector - sector):
            header = _gpt_header(view, at)
            if header:
                disk = str(uuid.UUID(bytes_le=header[56:72]))
                return signature.Signature("gpt", disk, end=_gpt_end(view, header, sector))
    return None


def _gpt_header(view: signature.View, at: int) -> bytes | None:
    header = view.read(at, 512)
    size = struct.unpack_from("<I", header, 12)[0]
    if header[:8] != b"EFI PART" or not 92 <= size <= 512:
        return None
    checksum = zlib.crc32(header[:16] + bytes(4) + header[20:size])
    return header if checksum == struct.unpack_from("<I", header, 16)[0] else None


def gpt_copy_at(view: signature.View) -> int | None:
    """Where the copy of the disk's GPT begins that fills its end: a table, then a header. None if there is no such copy.

    It is one when its header and the first one name each other, say the same of the disk, and its table is whole.
    """
    for sector in (512, 4096):
        last = view.length // sector - 1
        header, copy = _gpt_header(view, sector), _gpt_header(view, last * sector)
        if header and copy and _name_each_other(header, copy, last):
            first, count, size, checksum = struct.unpack_from("<QIII", copy, 72)
            table_size = count * size
            fits = 0 < table_size <= _LARGEST_TABLE and first * sector + round_up(table_size, sector) == last * sector
            if fits and zlib.crc32(view.read(first * sector, table_size)) == checksum:
                return int(first * sector)
    return None


def _name_each_other(header: bytes, copy: bytes, last: int) -> bool:
    """C(last): the number of the disk's last sector."""
    places = struct.unpack_from("<QQ", header, 24), struct.unpack_from("<QQ", copy, 24)
    same = header[40:72] == copy[40:72] and header[80:92] == copy[80:92]
    return same and places == ((1, last), (last, 1))


def _gpt_end(view: signature.View, header: bytes, sector: int) -> int:
    """Behind the last partition; behind the table when there is none."""
    first, count, size = struct.unpack_from("<QII", header, 72)
    if not 128 <= size <= 4096 or count * size > _LARGEST_TABLE:
        return view.length
    table = view.read(first * sector, count * size)
    used = [at for at in range(0, len(table), size) if any(table[at : at + 16])]
    lasts = [int(struct.unpack_from("<Q", table, at + 40)[0]) for at in used]
    return max([*((last + 1) * sector for last in lasts), 2 * sector + len(table)])


def _mbr(view: signature.View) -> signature.Signature | None:
    """MBR. An extended partition ends behind the logical ones in it, so those are not looked for."""
    sector = view.read(0, 512)
    partitions = list(_partitions(sector))
    if sector[510:] != b"\x55\xaa" or not _is_table(sector, partitions):
        return None
    if any(kind == _PROTECTIVE for kind, _start, _size in partitions) and _gpt(view):
        return None
    disk = struct.unpack_from("<I", sector, 440)[0]
    end = max([512, *((start + size) * 512 for _kind, start, size in partitions)])
    return signature.Signature("dos", f"{disk:08x}" if disk else "", end=end)


def _is_table(sector: bytes, partitions: t.Sequence[t.Any]) -> bool:
    """A boot sector of FAT or NTFS ends in the same two bytes: it has no table where the MBR has one."""
    boots = sector[446:510:16]
    boot_sector = sector[3:11] in (b"NTFS    ", b"EXFAT   ") or b"FAT" in (sector[54:57], sector[82:85])
    filled = partitions or any(sector[440:444])
    return bool(filled and not boot_sector and all(boot in (0, 0x80) for boot in boots))


def _partitions(sector: bytes) -> t.Iterator[tuple[int, int, int]]:
    for at in range(446, 510, 16):
        kind, start, size = struct.unpack_from("<4xB3xII", sector, at)
        if kind and size:
            yield kind, start, size


PROBES: tuple[signature.Probe, ...] = (_gpt, _mbr)
