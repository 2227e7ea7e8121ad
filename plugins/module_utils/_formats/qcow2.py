# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""qcow2, versions 2 and 3. Layout: docs/interop/qcow2.txt in QEMU's source."""

from __future__ import annotations

import contextlib
import struct
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, header
from ansible_collections.platter.qemu.plugins.module_utils._formats import luks, qcow2_tables, reading

MAGIC = b"QFI\xfb"
_FIXED = struct.Struct(">4sIQIIQIIQQIIQ")  # magic ... snapshots_offset: 72 bytes, all of version 2
_FEATURES = struct.Struct(">QQQII")  # incompatible, compatible, autoclear, refcount_order, header_length
_HEADER_V2, _HEADER_V3, _COMPRESSION_AT = 72, 104, 104

DIRTY, CORRUPT, DATA_FILE, COMPRESSION, EXTENDED_L2 = 1, 2, 4, 8, 16
_KNOWN_INCOMPATIBLE = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2
_LAZY_REFCOUNTS = 1
_AUTOCLEAR_BITMAPS, _AUTOCLEAR_RAW = 1, 2

_EXT_END, _EXT_BACKING_FORMAT, _EXT_FEATURE_NAMES = 0, 0xE2792ACA, 0x6803F857
_EXT_CRYPTO, _EXT_BITMAPS, _EXT_DATA_FILE = 0x0537BE77, 0x23852875, 0x44415441
#: QEMU writes at most six; each one that is read is small.
EXTENSIONS_LIMIT = 64
EXTENSION_SIZE_LIMIT = 32 * 1024
#: with more entries it is not looked where they lead to: 4 TiB in clusters of 64 KiB
L1_ENTRIES_LIMIT = 8192
_FEATURE_NAME_SIZE = 48
_NAMES_TOO_LONG = 1024

_COMPRESSIONS = {0: "zlib", 1: "zstd"}
_CRYPT_METHODS = {0: None, 1: "aes", 2: "luks"}


class _Fixed(t.NamedTuple):
    """The header's own fields, of either version."""

    version: int
    backing_offset: int
    backing_size: int
    cluster_bits: int
    size: int
    crypt_method: int
    l1_size: int
    l1_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    snapshot_count: int
    snapshots_offset: int
    incompatible: int = 0
    compatible: int = 0
    autoclear: int = 0
    refcount_order: int = 4
    length: int = _HEADER_V2
    compression: int = 0

    @property
    def cluster_size(self) -> int:
        return 1 << self.cluster_bits


def read(source: header.ByteSource) -> header.Header:
    fixed = _read_fixed(source)
    extensions = dict(_walk_extensions(source, fixed))
    backing_file = _backing_file(source, fixed)
    data_file = _data_file(extensions)
    encrypt = _encrypt(source, fixed, extensions)
    bitmaps = _bitmaps(source, fixed, extensions)
    return header.Header(
        format="qcow2",
        virtual_size=reading.whole_sectors(fixed.size),
        cluster_size=fixed.cluster_size,
        backing_file=backing_file,
        backing_format=_backing_format(extensions),
        data_file=data_file,
        least_length=_least_length(source, fixed),
        encrypted=encrypt is not None,
        dirty=bool(fixed.incompatible & DIRTY),
        corrupt=bool(fixed.incompatible & CORRUPT),
        options=_options(fixed, data_file, encrypt),
        snapshots=qcow2_tables.read_snapshots(source, fixed.snapshots_offset, fixed.snapshot_count, fixed.size),
        bitmaps=bitmaps,
        references=_references(fixed, backing_file, data_file),
        unknown_features=_unknown_features(fixed, extensions.get(_EXT_FEATURE_NAMES, b"")),
        format_specific={"type": "qcow2", "data": _specific(fixed, data_file, encrypt, bitmaps)},
    )


def read_names(source: header.ByteSource) -> header.Header:
    """No more than the files that it names, also where its tables or extensions cannot be read: QEMU may open it yet."""
    fixed = _read_fixed(source)
    extensions: dict[int, bytes] = {}
    with contextlib.suppress(errors.HeaderError):
        extensions.update(_walk_extensions(source, fixed))
    backing_file = _backing_file(source, fixed)
    return header.Header("qcow2", fixed.size, backing_file=backing_file, data_file=_data_file(extensions))


def _read_fixed(source: header.ByteSource) -> _Fixed:
    data = reading.exactly(source, 0, _HEADER_V2, "the qcow2 header")
    magic, version, *rest = _FIXED.unpack(data)
    reading.require(magic == MAGIC, "no qcow2 magic")
    reading.require(version in (2, 3), f"qcow2 version {version} is not 2 or 3")
    fixed = _Fixed(version, *rest) if version == 2 else _Fixed(version, *rest, *_read_version_3(source))
    _check_fixed(fixed)
    return fixed


def _read_version_3(source: header.ByteSource) -> tuple[int, ...]:
    data = reading.exactly(source, _HEADER_V2, _FEATURES.size, "the qcow2 version 3 header")
    values = _FEATURES.unpack(data)
    length = values[-1]
    reading.require(length >= _HEADER_V3, f"qcow2 header_length {length} is less than {_HEADER_V3}")
    if length <= _COMPRESSION_AT:
        return (*values, 0)
    return (*values, reading.exactly(source, _COMPRESSION_AT, 1, "the compression type")[0])


def _check_fixed(fixed: _Fixed) -> None:
    reading.require(9 <= fixed.cluster_bits <= 21, f"qcow2 cluster_bits {fixed.cluster_bits} is not 9 to 21")
    reading.require(fixed.length <= fixed.cluster_size, "the qcow2 header is longer than a cluster")
    reading.require(fixed.backing_offset <= fixed.cluster_size, "the backing file name is beyond the first cluster")
    reading.require(fixed.refcount_order <= 6, f"qcow2 refcount_order {fixed.refcount_order} is more than 6")
    reading.require(fixed.crypt_method in _CRYPT_METHODS, f"qcow2 crypt_method {fixed.crypt_method} is unknown")
    reading.require_size(fixed.size < 1 << 63, fixed.size)
    reading.require(_l1_entries(fixed) <= fixed.l1_size, "the L1 table is too small for the virtual size")
    reading.require(fixed.refcount_table_clusters, "there is no reference count table")
    _check_compression(fixed)


def _l1_entries(fixed: _Fixed) -> int:
    """How many L1 entries the virtual size needs."""
    entry_bits = 4 if fixed.incompatible & EXTENDED_L2 else 3
    covered = fixed.cluster_bits + fixed.cluster_bits - entry_bits
    return (fixed.size + (1 << covered) - 1) >> covered


def _least_length(source: header.ByteSource, fixed: _Fixed) -> int:
    """Where the last of the tables ends. That of the snapshots is read whole, and so is there."""
    l1_end = fixed.l1_offset + 8 * fixed.l1_size
    refcounts_end = fixed.refcount_table_offset + fixed.refcount_table_clusters * fixed.cluster_size
    if l1_end > source.length or fixed.l1_size > L1_ENTRIES_LIMIT:
        return max(l1_end, refcounts_end)
    last = qcow2_tables.last_l2_table(source, fixed.l1_offset, fixed.l1_size)
    return max(l1_end, refcounts_end, last + fixed.cluster_size if last else 0)


def _check_compression(fixed: _Fixed) -> None:
    flagged = bool(fixed.incompatible & COMPRESSION)
    reading.require(fixed.compression in _COMPRESSIONS, f"qcow2 compression type {fixed.compression} is unknown")
    reading.require(flagged == (fixed.compression != 0), "the compression type does not agree with its feature bit")
    small = fixed.incompatible & EXTENDED_L2 and fixed.cluster_bits < 14
    reading.require(not small, "extended L2 entries in clusters of less than 16 KiB")


def _walk_extensions(source: header.ByteSource, fixed: _Fixed) -> t.Iterator[tuple[int, bytes]]:
    """(magic, payload) of every extension that means something here, up to the end marker."""
    offset, end = fixed.length, fixed.backing_offset or fixed.cluster_size
    wanted = (_EXT_BACKING_FORMAT, _EXT_FEATURE_NAMES, _EXT_CRYPTO, _EXT_BITMAPS, _EXT_DATA_FILE)
    for _count in range(EXTENSIONS_LIMIT):
        if offset >= end:
            return
        magic, size = struct.unpack(">II", reading.exactly(source, offset, 8, "a qcow2 header extension"))
        if magic == _EXT_END:
            return
        reading.require(offset + 8 + size <= end, "a qcow2 header extension is longer than the room for it")
        if magic in wanted:
            reading.require(size <= EXTENSION_SIZE_LIMIT, f"a qcow2 header extension of {size} bytes")
            yield magic, reading.exactly(source, offset + 8, size, "a qcow2 header extension")
        offset += 8 + -(-size // 8) * 8
    reading.require(False, f"more than {EXTENSIONS_LIMIT} qcow2 header extensions")


def _backing_file(source: header.ByteSource, fixed: _Fixed) -> str | None:
    if not fixed.backing_offset:
        return None
    room = min(_NAMES_TOO_LONG - 1, fixed.cluster_size - fixed.backing_offset)
    reading.require(fixed.backing_size <= room, f"a backing file name of {fixed.backing_size} bytes")
    return (
        reading.text(reading.exactly(source, fixed.backing_offset, fixed.backing_size, "the backing file name")) or None
    )


def _backing_format(extensions: t.Mapping[int, bytes]) -> str | None:
    data = extensions.get(_EXT_BACKING_FORMAT, b"")
    reading.require(len(data) < 16, f"a backing format name of {len(data)} bytes")
    return reading.text(data) or None


def _data_file(extensions: t.Mapping[int, bytes]) -> str | None:
    return reading.text(extensions[_EXT_DATA_FILE]) if _EXT_DATA_FILE in extensions else None


def _references(fixed: _Fixed, backing_file: str | None, data_file: str | None) -> tuple[header.Reference, ...]:
    """The data file counts whenever it is named or flagged: a QEMU may open it in either case."""
    found = []
    if backing_file is not None:
        found.append(header.Reference("backing_file", backing_file))
    if data_file is not None or fixed.incompatible & DATA_FILE:
        found.append(header.Reference("data_file", data_file or ""))
    return tuple(found)


def _encrypt(
    source: header.ByteSource, fixed: _Fixed, extensions: t.Mapping[int, bytes]
) -> t.Mapping[str, t.Any] | None:
    """C(encrypt) of C(format-specific): the LUKS header lies where the crypto extension says."""
    method = _CRYPT_METHODS[fixed.crypt_method]
    reading.require(
        _EXT_CRYPTO not in extensions or method == "luks", "a LUKS header in an image that is not encrypted so"
    )
    if method != "luks":
        return {"format": method} if method else None
    return dict(luks.read_header(source, _luks_at(extensions)).info(), format="luks")


def luks_at(source: header.ByteSource) -> int:
    """Where the LUKS header of an encrypted image begins."""
    return _luks_at(dict(_walk_extensions(source, _read_fixed(source))))


def _luks_at(extensions: t.Mapping[int, bytes]) -> int:
    where = extensions.get(_EXT_CRYPTO, b"")
    reading.require(len(where) == 16, "a LUKS-encrypted image without its crypto header extension")
    return int(struct.unpack(">QQ", where)[0])


def _bitmaps(source: header.ByteSource, fixed: _Fixed, extensions: t.Mapping[int, bytes]) -> tuple[t.Any, ...]:
    """Without the autoclear bit an older QEMU has written to the image: the bitmaps are void."""
    if _EXT_BITMAPS not in extensions or not fixed.autoclear & _AUTOCLEAR_BITMAPS:
        return ()
    return qcow2_tables.read_bitmaps(source, extensions[_EXT_BITMAPS])


def _unknown_features(fixed: _Fixed, names: bytes) -> tuple[str, ...]:
    unknown = fixed.incompatible & ~_KNOWN_INCOMPATIBLE
    if not unknown:
        return ()
    named = {}
    for at in range(0, len(names) - _FEATURE_NAME_SIZE + 1, _FEATURE_NAME_SIZE):
        if names[at] == 0:
            named[names[at + 1]] = reading.text(names[at + 2 : at + _FEATURE_NAME_SIZE])
    return tuple(named.get(bit) or f"bit {bit}" for bit in range(64) if unknown >> bit & 1)


def _options(fixed: _Fixed, data_file: str | None, encrypt: t.Mapping[str, t.Any] | None) -> dict[str, t.Any]:
    options: dict[str, t.Any] = {
        "compat": "0.10" if fixed.version == 2 else "1.1",
        "cluster_size": fixed.cluster_size,
        "lazy_refcounts": bool(fixed.compatible & _LAZY_REFCOUNTS),
        "refcount_bits": 1 << fixed.refcount_order,
        "extended_l2": bool(fixed.incompatible & EXTENDED_L2),
        "compression_type": _COMPRESSIONS[fixed.compression],
        "data_file_raw": bool(fixed.autoclear & _AUTOCLEAR_RAW),
    }
    if data_file is not None:
        options["data_file"] = data_file
    if encrypt:
        options["encrypt_format"] = encrypt["format"]
        options.update(("encrypt_" + name, value) for name, value in luks.options_of(encrypt).items())
    return options


def _specific(
    fixed: _Fixed, data_file: str | None, encrypt: t.Mapping[str, t.Any] | None, bitmaps: t.Sequence[t.Any]
) -> dict[str, t.Any]:
    """C(format-specific.data): version 2 has few of them."""
    data: dict[str, t.Any] = {
        "compat": "0.10" if fixed.version == 2 else "1.1",
        "compression-type": _COMPRESSIONS[fixed.compression],
        "refcount-bits": 1 << fixed.refcount_order,
    }
    if encrypt:
        data["encrypt"] = encrypt
    if fixed.version == 2:
        return data
    data["lazy-refcounts"] = bool(fixed.compatible & _LAZY_REFCOUNTS)
    data["corrupt"] = bool(fixed.incompatible & CORRUPT)
    data["extended-l2"] = bool(fixed.incompatible & EXTENDED_L2)
    if bitmaps:
        data["bitmaps"] = [{"name": b.name, "granularity": b.granularity, "flags": list(b.flags)} for b in bitmaps]
    if data_file is not None:
        data["data-file"] = data_file
    if fixed.incompatible & DATA_FILE:
        data["data-file-raw"] = bool(fixed.autoclear & _AUTOCLEAR_RAW)
    return data
