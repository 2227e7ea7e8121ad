# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""vpc: Virtual PC, Hyper-V and Azure (VHD). Layout: Microsoft's "Virtual Hard Disk Image Format Specification"."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._core import header
from ansible_collections.platter.qemu.plugins.module_utils._core.size import SECTOR
from ansible_collections.platter.qemu.plugins.module_utils._formats import geometry, reading

_FOOTER = struct.Struct(">8sIIQI4sIIQQHBBII16s")
_DYNAMIC = struct.Struct(">8sQQIIII16sII512s")
_LOCATOR = struct.Struct(">4sIIIQ")
_LOCATORS, LOCATOR_SIZE_LIMIT = 8, 4096
_FIXED_TYPE, _DIFFERENCING_TYPE = 2, 4
_LARGEST = 2040 << 30
#: Programs that mean the size in the footer. All others mean the geometry, as Virtual PC does: it truncates to it.
_BY_SIZE = (b"win ", b"qem2", b"d2v ", b"CTXS", b"tap\0")
_CODECS = {b"W2ru": "utf-16-le", b"W2ku": "utf-16-le", b"MacX": "utf-8"}


@dataclass(frozen=True)
class _Footer:
    """The 512 bytes that every VHD ends with; growing ones begin with a copy."""

    at_end: bool
    dynamic_at: int
    application: bytes
    size: int
    cylinders: int
    heads: int
    sectors: int
    kind: int

    @property
    def virtual_size(self) -> int:
        by_geometry = self.cylinders * self.heads * self.sectors
        if self.application in _BY_SIZE or by_geometry == geometry.FULL_GEOMETRY:
            return self.size // SECTOR * SECTOR
        return by_geometry * SECTOR


def read(source: header.ByteSource) -> header.Header:
    footer = _read_footer(source)
    reading.require_size(footer.virtual_size <= _LARGEST, footer.virtual_size)
    block_size, least, references = (0, 0, ()) if footer.at_end else _read_dynamic(source, footer)
    fixed = footer.at_end or footer.kind == _FIXED_TYPE
    return header.Header(
        format="vpc",
        virtual_size=footer.virtual_size,
        cluster_size=None if fixed else block_size,
        least_length=least,
        options={"subformat": "fixed" if fixed else "dynamic", "force_size": footer.application in _BY_SIZE},
        references=references or _unnamed_parent(footer),
    )


def _unnamed_parent(footer: _Footer) -> tuple[header.Reference, ...]:
    return (header.Reference("parent", ""),) if footer.kind == _DIFFERENCING_TYPE else ()


def _read_footer(source: header.ByteSource) -> _Footer:
    """At the beginning of growing images, else at the end."""
    data = reading.exactly(source, 0, SECTOR, "the VHD footer")
    at_end = data[:8] != b"conectix"
    if at_end:
        data = reading.exactly(source, source.length - SECTOR, SECTOR, "the VHD footer")
    fields = _FOOTER.unpack_from(data)
    magic, _features, _version, dynamic_at, _time, application, _app_version, _os, _was, size, *rest = fields
    cylinders, heads, sectors, kind, checksum, _id = rest
    reading.require(magic == b"conectix", "no VHD footer")
    reading.require(_checksum(data) == checksum, "the checksum of the VHD footer is wrong")
    return _Footer(at_end, dynamic_at, application, size, cylinders, heads, sectors, kind)


def _checksum(data: bytes) -> int:
    return ~(sum(data) - sum(data[64:68])) & 0xFFFFFFFF


def _read_dynamic(source: header.ByteSource, footer: _Footer) -> tuple[int, int, tuple[header.Reference, ...]]:
    """(block size, where the block table ends, parents) of the header of a growing image."""
    data = reading.exactly(source, footer.dynamic_at, 2 * SECTOR, "the VHD dynamic disk header")
    magic, _next, table_at, _version, entries, block_size, _sum, _uuid, _time, _pad, name = _DYNAMIC.unpack_from(data)
    reading.require(magic == b"cxsparse", "no VHD dynamic disk header")
    reading.require(reading.is_power_of_two(block_size) and block_size >= SECTOR, f"a VHD block size of {block_size}")
    reading.require(
        entries * block_size >= footer.virtual_size, "the VHD block table is too small for the virtual size"
    )
    return block_size, table_at + 4 * entries, _parents(source, data, name)


def _parents(source: header.ByteSource, data: bytes, name: bytes) -> tuple[header.Reference, ...]:
    """The parent's plain name, and what the locators say for each platform."""
    found = [name.decode("utf-16-be", "replace").split("\0", 1)[0]]
    for index in range(_LOCATORS):
        code, _space, size, _pad, offset = _LOCATOR.unpack_from(data, _DYNAMIC.size + index * _LOCATOR.size)
        if any(code) and size:
            reading.require(size <= LOCATOR_SIZE_LIMIT, f"a VHD parent locator of {size} bytes")
            raw = reading.exactly(source, offset, size, "a VHD parent locator")
            found.append(raw.decode(_CODECS.get(code, "utf-8"), "replace").rstrip("\0"))
    return tuple(header.Reference("parent", path) for path in dict.fromkeys(found) if path)
