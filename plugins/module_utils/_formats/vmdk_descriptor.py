# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""VMDK's descriptor: a text that names the extents and the parent. Read as QEMU reads it, oddities included."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.platter.qemu.plugins.module_utils._core import header
from ansible_collections.platter.qemu.plugins.module_utils._formats import reading

#: QEMU looks for the content ids and the parent in this many bytes only.
HEAD_SIZE = 20 * reading.SECTOR
EXTENTS_LIMIT = 8192
NAME_LIMIT = 1023
_CREATE_TYPE_LIMIT = 127
NO_PARENT = 0xFFFFFFFF

_EXTENT = re.compile(
    rb"[ \t]*(RW|RDONLY|NOACCESS)\s{1,64}([+-]?\d{1,20})\s{0,64}([A-Za-z]{1,10})\s{0,64}"
    rb"(?:\"([^\n\r\"]{1,511})(?:\"\s{0,64}([+-]?\d{1,20}))?)?"
)
_CID = re.compile(rb"CID.\s*(?:0[xX])?([0-9a-fA-F]{1,16})", re.DOTALL)
_PARENT_CID = re.compile(rb"parentCID.\s*(?:0[xX])?([0-9a-fA-F]{1,16})", re.DOTALL)
_DDB = re.compile(rb"^[ \t]*ddb\.(\w{1,64})[ \t]*=[ \t]*\"([^\"\n]{0,128})\"", re.MULTILINE)
_FLAT, _SPARSE = ("FLAT", "VMFS"), ("SPARSE", "VMFSSPARSE", "SESPARSE")


@dataclass(frozen=True)
class Descriptor:
    """What the text says."""

    cid: int
    parent_cid: int
    parent_file: str | None
    create_type: str | None
    extents: tuple[header.Extent, ...] = ()
    #: the disk data base: adapterType, virtualHWVersion, toolsVersion, ...
    ddb: t.Mapping[str, str] = field(default_factory=dict)


def parse(data: bytes, head: bytes | None = None) -> Descriptor:
    """The descriptor C(data). C(head), where QEMU looks for content ids and parent, can be elsewhere."""
    body = data.split(b"\0", 1)[0]
    head = body[:HEAD_SIZE] if head is None else head[:HEAD_SIZE].split(b"\0", 1)[0]
    return Descriptor(
        cid=_content_id(_CID, head),
        parent_cid=_content_id(_PARENT_CID, head),
        parent_file=_parent_file(head),
        create_type=_create_type(body),
        extents=tuple(_extents(body)),
        ddb={reading.text(key): reading.text(value) for key, value in _DDB.findall(body)},
    )


def is_used(extent: header.Extent) -> bool:
    """QEMU opens these; it passes over all others without a word."""
    return (
        extent.access == "RW" and extent.kind in _FLAT + _SPARSE and extent.virtual_size > 0 and bool(extent.filename)
    )


def is_flat(extent: header.Extent) -> bool:
    return extent.kind in _FLAT


def _content_id(pattern: t.Pattern[bytes], head: bytes) -> int:
    match = pattern.search(head)
    reading.require(match, "the VMDK descriptor has no content id")
    return int(t.cast("t.Match[bytes]", match).group(1), 16) & 0xFFFFFFFF


def _parent_file(head: bytes) -> str | None:
    """What stands between quotes after the first C(parentFileNameHint), wherever it is."""
    _before, key, after = head.partition(b"parentFileNameHint")
    if not key:
        return None
    name, quote, _rest = after[2:].partition(b'"')
    reading.require(quote and len(name) <= NAME_LIMIT, "the VMDK descriptor's parent has no end")
    return reading.text(name) or None


def _create_type(body: bytes) -> str | None:
    _before, key, after = body.partition(b"createType")
    value, quote, _rest = after[2:].partition(b'"')
    return reading.text(value) if key and quote and len(value) <= _CREATE_TYPE_LIMIT else None


def _extents(body: bytes) -> t.Iterator[header.Extent]:
    """One for each extent line, and again for each empty line before it: QEMU's scanner skips line ends too."""
    start, times, found = 0, 1, 0
    while start < len(body):
        end = body.find(b"\n", start) + 1 or len(body)
        if body[start:end].strip():
            for extent in _extent_at(body, start) * times:
                found += 1
                reading.require(found <= EXTENTS_LIMIT, f"more than {EXTENTS_LIMIT} VMDK extents")
                yield extent
            times = 0
        times, start = times + 1, end


def _extent_at(body: bytes, start: int) -> list[header.Extent]:
    match = _EXTENT.match(body, start)
    if not match:
        return []
    access, sectors, kind, name, offset = match.groups()
    extent = header.Extent(
        access=access.decode(),
        kind=kind.decode(),
        filename=reading.text(name or b""),
        virtual_size=max(0, int(sectors)) * reading.SECTOR,
        offset=int(offset or 0) * reading.SECTOR,
    )
    reading.require_size(extent.virtual_size < 1 << 63, extent.virtual_size)
    if is_used(extent):
        _check_offset(extent, offset)
    return [extent]


def _check_offset(extent: header.Extent, offset: bytes | None) -> None:
    if extent.kind == "FLAT":
        reading.require(offset is not None and extent.offset >= 0, "a FLAT extent without its offset")
    else:
        reading.require(offset is None, f"a {extent.kind} extent with an offset")
