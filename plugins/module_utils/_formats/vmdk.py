# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""vmdk: VMware's images. One sparse file, or a descriptor whose extents are other files."""

from __future__ import annotations

import struct
import typing as t
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.header import ByteSource, Extent, Header, Reference
from ansible_collections.platter.qemu.plugins.module_utils._core.size import round_up
from ansible_collections.platter.qemu.plugins.module_utils._formats import reading, vmdk_descriptor

_SPARSE = struct.Struct("<4sIIQQQQIQQQB4sH")
_ESX = struct.Struct("<4sIIIIII")
_MARKER = struct.Struct("<QII")
_GRAIN_DIRECTORY_AT_END = 2**64 - 1
_FOOTER_MARKER, _END_MARKER = 3, 0
_HAS_ZERO_GRAINS, _DEFLATE = 4, 1
#: The longest descriptor that is read, embedded or of its own; QEMU itself reads 1 MiB.
DESCRIPTOR_LIMIT = 512 * 1024
_GRAIN_LIMIT, _DIRECTORY_LIMIT = 0x200000, 32 << 20
_CREATE_TYPES = ("monolithicFlat", "vmfs", "vmfsSparse", "seSparse", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat")


@dataclass(frozen=True)
class _Sparse:
    """The header of one sparse file."""

    virtual_size: int
    cluster_size: int
    compressed: bool = False
    zero_grains: bool = False
    descriptor_at: int = 0

    @property
    def is_descriptor(self) -> bool:
        """QEMU goes on to the files that the text in it names."""
        return not self.virtual_size and bool(self.descriptor_at)


def read(source: ByteSource) -> Header:
    magic = reading.exactly(source, 0, 4, "the vmdk header")
    if magic not in (b"KDMV", b"COWD"):
        return _from_descriptor(vmdk_descriptor.parse(_descriptor_bytes(source, 0)))
    head = source.read(reading.SECTOR, vmdk_descriptor.HEAD_SIZE) if source.length > reading.SECTOR else b""
    sparse = _read_sparse(source)
    if sparse.is_descriptor:
        return _from_descriptor(vmdk_descriptor.parse(_descriptor_bytes(source, sparse.descriptor_at), head))
    if b"CID" not in head:
        raise errors.HeaderError("it is an extent of a split vmdk image, without a descriptor", reason="vmdk_extent")
    return _from_sparse(sparse, vmdk_descriptor.parse(head), magic)


def complete(header: Header, members: t.Mapping[str, ByteSource]) -> Header:
    """The header of a descriptor, with what only the sparse members know. C(members) by their name in it."""
    found = {name: _read_sparse(members[name]) for name in sparse_members(header)}
    for name, sparse in found.items():
        reading.require(not sparse.is_descriptor, f"the extent {name} is a descriptor")
    extents = tuple(
        e._replace(virtual_size=found[e.filename].virtual_size)
        if e.filename in found and vmdk_descriptor.is_used(e)
        else e
        for e in header.extents
    )
    return _with_extents(header, extents, found)


def is_descriptor(source: ByteSource) -> bool:
    """Whether a sparse extent is a descriptor itself, which QEMU follows. Raises HeaderError for what is no such extent."""
    return _read_sparse(source).is_descriptor


def sparse_members(header: Header) -> list[str]:
    """The names of the extents that QEMU opens and that have a header of their own."""
    used = (e for e in header.extents if vmdk_descriptor.is_used(e) and not vmdk_descriptor.is_flat(e))
    return list(dict.fromkeys(e.filename for e in used))


def _read_sparse(source: ByteSource) -> _Sparse:
    if reading.exactly(source, 0, 4, "the vmdk header") == b"COWD":
        return _read_esx(source)
    return _read_hosted(source, reading.exactly(source, 0, _SPARSE.size, "the vmdk header"))


def _read_esx(source: ByteSource) -> _Sparse:
    data = reading.exactly(source, 0, _ESX.size, "the vmdk header")
    _magic, _version, _flags, sectors, grain, _directory, _entries = _ESX.unpack(data)
    reading.require(grain <= _GRAIN_LIMIT, f"a vmdk grain of {grain} sectors")
    return _Sparse(sectors * reading.SECTOR, grain * reading.SECTOR)


def _read_hosted(source: ByteSource, data: bytes) -> _Sparse:
    fields = _SPARSE.unpack(data)
    magic, _version, _flags, capacity, _grain, descriptor_at = fields[:6]
    reading.require(magic == b"KDMV", "no vmdk magic")
    if not capacity and descriptor_at:
        return _Sparse(0, 0, descriptor_at=descriptor_at * reading.SECTOR)
    if fields[9] == _GRAIN_DIRECTORY_AT_END:
        fields = _SPARSE.unpack(_footer(source))
    magic, version, flags, capacity, grain, _at, _size, entries, _rgd, _gd, overhead, *rest = fields
    reading.require(version <= 3, f"vmdk version {version} is more than 3")
    _check_grains(capacity, grain, entries)
    reading.require(overhead <= round_up(source.length, reading.SECTOR) // reading.SECTOR, "the vmdk file is cut off")
    return _Sparse(
        capacity * reading.SECTOR, grain * reading.SECTOR, rest[-1] == _DEFLATE, bool(flags & _HAS_ZERO_GRAINS)
    )


def _check_grains(capacity: int, grain: int, entries: int) -> None:
    """As QEMU counts, in 32 bits."""
    reading.require(entries <= 512, f"a vmdk grain table of {entries} entries")
    covered = entries * grain & 0xFFFFFFFF
    reading.require(covered, "vmdk grain tables that cover nothing")
    reading.require(grain <= _GRAIN_LIMIT, f"a vmdk grain of {grain} sectors")
    reading.require_size(capacity < 1 << 54, capacity * reading.SECTOR)
    reading.require(-(-capacity // covered) & 0xFFFFFFFF <= _DIRECTORY_LIMIT, "the vmdk grain directory is too large")


def _footer(source: ByteSource) -> bytes:
    """streamOptimized files are written front to back: the final header stands before their end."""
    at = round_up(source.length, reading.SECTOR) - 3 * reading.SECTOR
    data = reading.exactly(source, at, 2 * reading.SECTOR + _MARKER.size, "the vmdk footer")
    _value, size, kind = _MARKER.unpack_from(data)
    end = _MARKER.unpack_from(data, 2 * reading.SECTOR)
    header = data[reading.SECTOR : reading.SECTOR + _SPARSE.size]
    good = header[:4] == b"KDMV" and not size and kind == _FOOTER_MARKER and end == (0, 0, _END_MARKER)
    reading.require(good, "the vmdk footer is not well formed")
    return header


def _descriptor_bytes(source: ByteSource, offset: int) -> bytes:
    """The text at C(offset). More of it than is read here would be read by QEMU: that is an error, not an end."""
    size = min(DESCRIPTOR_LIMIT, source.length - offset)
    data = reading.exactly(source, offset, size, "the vmdk descriptor")
    whole = offset + size == source.length or b"\0" in data
    reading.require(whole, f"the vmdk descriptor is longer than {DESCRIPTOR_LIMIT} bytes")
    return data


def _from_descriptor(descriptor: vmdk_descriptor.Descriptor) -> Header:
    reading.require(descriptor.create_type in _CREATE_TYPES, f"vmdk create type {descriptor.create_type!r} is unknown")
    return _with_extents(_header(descriptor, str(descriptor.create_type)), descriptor.extents, {})


def _from_sparse(sparse: _Sparse, descriptor: vmdk_descriptor.Descriptor, magic: bytes) -> Header:
    """One file that holds all. QEMU pays no heed to the create type and extents that its own text names."""
    create_type = "streamOptimized" if sparse.compressed else "monolithicSparse"
    header = _header(descriptor, create_type if magic == b"KDMV" else "")
    own = Extent("RW", "", "", sparse.virtual_size)
    header = _with_extents(header, (own,), {"": sparse})
    return header._replace(references=header.references + _misplaced(descriptor))


def _misplaced(descriptor: vmdk_descriptor.Descriptor) -> tuple[Reference, ...]:
    """Extents in an embedded text that are not the file itself (which may have been renamed since)."""
    own = len(descriptor.extents) == 1 and descriptor.extents[0].kind in ("SPARSE", "VMFSSPARSE")
    if own and not set("/\\:") & set(descriptor.extents[0].filename):
        return ()
    return tuple(Reference("extent", e.filename) for e in descriptor.extents if e.filename)


def _header(descriptor: vmdk_descriptor.Descriptor, create_type: str) -> Header:
    options: dict[str, t.Any] = {"subformat": create_type} if create_type else {}
    for name, key in (("adapter_type", "adapterType"), ("toolsversion", "toolsVersion")):
        if key in descriptor.ddb:
            options[name] = descriptor.ddb[key]
    if "virtualHWVersion" in descriptor.ddb:
        options["hwversion"] = descriptor.ddb["virtualHWVersion"]
        options["compat6"] = options["hwversion"] == "6"
    parent = descriptor.parent_file
    data = {"cid": descriptor.cid, "parent-cid": descriptor.parent_cid, "create-type": create_type}
    return Header(
        format="vmdk",
        virtual_size=0,
        backing_file=parent,
        backing_format="vmdk" if parent is not None else None,
        options=options,
        references=() if parent is None else (Reference("backing_file", parent),),
        format_specific={"type": "vmdk", "data": data},
    )


def _with_extents(header: Header, extents: tuple[Extent, ...], known: t.Mapping[str, _Sparse]) -> Header:
    """The header with what follows from its extents; the cluster size of a sparse member is in its own file."""
    used = [extent for extent in extents if vmdk_descriptor.is_used(extent) or extent.filename in known]
    facts = [_extent_info(extent, known.get(extent.filename)) for extent in used]
    specific = dict(header.format_specific or {})
    specific["data"] = dict(specific["data"], extents=facts)
    sparse = [known[extent.filename] for extent in used if extent.filename in known]
    options = dict(header.options)
    if sparse:
        options["zeroed_grain"] = any(s.zero_grains for s in sparse)
    outside = [Reference("extent", extent.filename) for extent in extents if extent.filename]
    size = sum(extent.virtual_size for extent in used)
    reading.require_size(size < 1 << 63, size)
    kept = [reference for reference in header.references if reference.kind != "extent"]
    return header._replace(
        virtual_size=size,
        cluster_size=facts[0].get("cluster-size") if facts else None,
        compressed=any(s.compressed for s in sparse),
        options=options,
        extents=extents,
        references=tuple(kept + list(dict.fromkeys(outside))),
        format_specific=specific,
    )


def _extent_info(extent: Extent, sparse: _Sparse | None) -> dict[str, t.Any]:
    """As in C(qemu-img info --output=json), but for the path, which depends on where the image is."""
    info: dict[str, t.Any] = {
        "filename": extent.filename,
        "format": extent.kind,
        "virtual-size": extent.virtual_size,
    }
    if sparse:
        info["cluster-size"] = sparse.cluster_size
    if sparse and sparse.compressed:
        info["compressed"] = True
    return info


def has_parent_without_name(header: Header) -> bool:
    """The content id of a parent is there, but not where the parent is."""
    data = (header.format_specific or {}).get("data", {})
    return (
        header.backing_file is None and data.get("parent-cid", vmdk_descriptor.NO_PARENT) != vmdk_descriptor.NO_PARENT
    )
