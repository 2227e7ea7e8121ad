# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""vhdx: Hyper-V. Microsoft's [MS-VHDX] is the layout.

The checksums are not verified (64 KiB of CRC32C are slow in Python): QEMU verifies them before it uses the image.
"""

from __future__ import annotations

import struct
import typing as t
import uuid
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._core import header
from ansible_collections.platter.qemu.plugins.module_utils._formats import reading

_KIB64 = 65536
_HEADERS_AT = (1 * _KIB64, 2 * _KIB64)
_REGIONS_AT = 3 * _KIB64
_HEADER = struct.Struct("<4sIQ16s16s16sHHIQ")
_REGION_TABLE, _REGION = struct.Struct("<4sIII"), struct.Struct("<16sQII")
_METADATA_TABLE, _ITEM = struct.Struct("<8sHH20x"), struct.Struct("<16sIIII")
_LOCATOR, _LOCATOR_ENTRY = struct.Struct("<16sHH"), struct.Struct("<IIHH")
#: The format's own limit for both tables, and what is read of a parent locator.
ENTRIES_LIMIT, LOCATOR_LIMIT, LOCATOR_ENTRIES_LIMIT = 2047, 64 * 1024, 64

_BAT, _METADATA = "2dc27766-f623-4200-9d64-115e9bfd4a08", "8b7ca206-4790-4b9a-b8fe-575f050f886e"
_FILE_PARAMETERS = "caa16737-fa36-4d43-b3b6-33f0aa44e76b"
_VIRTUAL_SIZE = "2fa54224-cd1b-4876-b211-5dbed83bf4b8"
_PAGE_83 = "beca12ab-b2e6-4523-93ef-c309e000c746"
_LOGICAL_SECTOR = "8141bf1d-a96f-4709-ba47-f233a8faab5f"
_PHYSICAL_SECTOR = "cda348c7-445d-4471-9cc9-e9885251c556"
_PARENT_LOCATOR = "a8d35f2d-b30b-454d-abf7-d3d84834ab0c"
_NEEDED = (_FILE_PARAMETERS, _VIRTUAL_SIZE, _PAGE_83, _LOGICAL_SECTOR, _PHYSICAL_SECTOR)
_REGION_REQUIRED, _ITEM_REQUIRED = 1, 4
_FIXED, _HAS_PARENT = 1, 2
_PATHS = ("relative_path", "volume_path", "absolute_win32_path")


@dataclass(frozen=True)
class _Parameters:
    """The metadata items that say what the disk is."""

    size: int
    block_size: int
    bits: int
    sector: int


def read(source: header.ByteSource) -> header.Header:
    reading.require(reading.exactly(source, 0, 8, "the vhdx identifier") == b"vhdxfile", "no vhdx identifier")
    log_size, log_used = _current_header(source)
    regions, unknown_regions = _regions(source)
    reading.require(_BAT in regions and _METADATA in regions, "the vhdx has no block table or no metadata")
    base = regions[_METADATA][0]
    items, unknown_items = _items(source, base)
    parameters = _parameters(source, base, items)
    return header.Header(
        format="vhdx",
        virtual_size=reading.whole_sectors(parameters.size),
        cluster_size=parameters.block_size,
        least_length=max(offset + length for offset, length in regions.values()),
        dirty=log_used,
        options={
            "subformat": "fixed" if parameters.bits & _FIXED else "dynamic",
            "block_size": parameters.block_size,
            "log_size": log_size,
        },
        references=_parents(source, base, items, bool(parameters.bits & _HAS_PARENT)),
        unknown_features=unknown_regions + unknown_items,
    )


def _guid(data: bytes) -> str:
    return str(uuid.UUID(bytes_le=data))


def _current_header(source: header.ByteSource) -> tuple[int, bool]:
    """(log size, whether there is something to replay in it) of the newer of the two headers."""
    newest = (-1, 0, False)
    for offset in _HEADERS_AT:
        fields = _HEADER.unpack(reading.exactly(source, offset, _HEADER.size, "a vhdx header"))
        signature, _checksum, sequence, _write, _data, log_guid, _log_version, version, log_size, _log_at = fields
        if signature == b"head" and version == 1 and sequence > newest[0]:
            newest = (sequence, log_size, any(log_guid))
    reading.require(newest[0] >= 0, "no valid vhdx header")
    return newest[1], newest[2]


def _regions(source: header.ByteSource) -> tuple[dict[str, tuple[int, int]], tuple[str, ...]]:
    """(offset, length) of the known regions, and the unknown ones that the image says are required."""
    signature, _checksum, count, _pad = _REGION_TABLE.unpack(
        reading.exactly(source, _REGIONS_AT, 16, "the vhdx region table")
    )
    reading.require(signature == b"regi" and count <= ENTRIES_LIMIT, "a malformed vhdx region table")
    table = reading.exactly(source, _REGIONS_AT + 16, count * _REGION.size, "the vhdx region table")
    known: dict[str, tuple[int, int]] = {}
    unknown = []
    for guid, offset, length, bits in _REGION.iter_unpack(table):
        name = _guid(guid)
        reading.require(name not in known, f"the vhdx region {name} is there twice")
        if name in (_BAT, _METADATA):
            known[name] = (offset, length)
        elif bits & _REGION_REQUIRED:
            unknown.append(f"region {name}")
    return known, tuple(unknown)


def _items(source: header.ByteSource, base: int) -> tuple[dict[str, tuple[int, int]], tuple[str, ...]]:
    """(offset, length) of the known metadata items, and the unknown ones that are required."""
    head = reading.exactly(source, base, _METADATA_TABLE.size, "the vhdx metadata table")
    signature, _reserved, count = _METADATA_TABLE.unpack(head)
    reading.require(signature == b"metadata" and count <= ENTRIES_LIMIT, "a malformed vhdx metadata table")
    table = reading.exactly(source, base + len(head), count * _ITEM.size, "the vhdx metadata table")
    known: dict[str, tuple[int, int]] = {}
    unknown = []
    for guid, offset, length, bits, _pad in _ITEM.iter_unpack(table):
        name = _guid(guid)
        reading.require(name not in known, f"the vhdx metadata item {name} is there twice")
        if name in (*_NEEDED, _PARENT_LOCATOR):
            known[name] = (offset, length)
        elif bits & _ITEM_REQUIRED:
            unknown.append(f"metadata item {name}")
    return known, tuple(unknown)


def _parameters(source: header.ByteSource, base: int, items: t.Mapping[str, tuple[int, int]]) -> _Parameters:
    missing = [name for name in _NEEDED if name not in items]
    reading.require(not missing, "the vhdx metadata has no item {}".format(", ".join(missing)))
    block_size, bits = struct.unpack("<II", _item(source, base, items[_FILE_PARAMETERS], 8))
    (size,) = struct.unpack("<Q", _item(source, base, items[_VIRTUAL_SIZE], 8))
    (sector,) = struct.unpack("<I", _item(source, base, items[_LOGICAL_SECTOR], 4))
    good = reading.is_power_of_two(block_size) and 1 << 20 <= block_size <= 256 << 20
    reading.require(good, f"the vhdx block size {block_size} is not a power of two from 1M to 256M")
    reading.require(sector in (reading.SECTOR, 4096), f"the vhdx logical sector size {sector} is neither 512 nor 4096")
    reading.require_size(size < 1 << 63, size)
    return _Parameters(size, block_size, bits, sector)


def _item(source: header.ByteSource, base: int, where: tuple[int, int], size: int) -> bytes:
    return reading.exactly(source, base + where[0], size, "a vhdx metadata item")


def _parents(
    source: header.ByteSource, base: int, items: t.Mapping[str, tuple[int, int]], has_parent: bool
) -> tuple[header.Reference, ...]:
    """Every path at which a parent may be. A parent that is not named is a reference to nowhere."""
    if _PARENT_LOCATOR not in items:
        return (header.Reference("parent", ""),) if has_parent else ()
    offset, length = items[_PARENT_LOCATOR]
    reading.require(_LOCATOR.size <= length <= LOCATOR_LIMIT, f"a vhdx parent locator of {length} bytes")
    entries = _locator_entries(reading.exactly(source, base + offset, length, "the vhdx parent locator"))
    paths = [entries[key] for key in _PATHS if entries.get(key)]
    return tuple(header.Reference("parent", path) for path in paths or [""])


def _locator_entries(data: bytes) -> dict[str, str]:
    _kind, _reserved, count = _LOCATOR.unpack_from(data)
    reading.require(count <= LOCATOR_ENTRIES_LIMIT, f"a vhdx parent locator of {count} entries")
    reading.require(_LOCATOR.size + count * _LOCATOR_ENTRY.size <= len(data), "the vhdx parent locator is cut off")
    found = {}
    for index in range(count):
        at = _LOCATOR.size + index * _LOCATOR_ENTRY.size
        key_at, value_at, key_size, value_size = _LOCATOR_ENTRY.unpack_from(data, at)
        key, value = data[key_at : key_at + key_size], data[value_at : value_at + value_size]
        found[key.decode("utf-16-le", "replace")] = value.decode("utf-16-le", "replace")
    return found
