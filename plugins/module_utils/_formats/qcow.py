# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""qcow, version 1: QEMU's first copy-on-write format."""

from __future__ import annotations

import struct

from ansible_collections.platter.qemu.plugins.module_utils._core import header
from ansible_collections.platter.qemu.plugins.module_utils._formats import reading

_HEADER = struct.Struct(">4sIQIIQBBHIQ")
_NAME_LIMIT = 1023
_CRYPT_METHODS = {0: None, 1: "aes"}


def read(source: header.ByteSource) -> header.Header:
    fields = _HEADER.unpack(reading.exactly(source, 0, _HEADER.size, "the qcow header"))
    magic, version, backing_at, backing_size, _mtime, size, cluster_bits, l2_bits, _pad, crypt, l1_at = fields
    reading.require(magic == b"QFI\xfb" and version == 1, "no qcow version 1 magic")
    reading.require_size(1 < size < 1 << 63, size)
    reading.require(9 <= cluster_bits <= 16, f"qcow cluster_bits {cluster_bits} is not 9 to 16")
    reading.require(6 <= l2_bits <= 13, f"qcow l2_bits {l2_bits} is not 6 to 13")
    reading.require(crypt in _CRYPT_METHODS, f"qcow crypt_method {crypt} is unknown")
    reading.require_size(size >> (cluster_bits + l2_bits) < 2**31 // 8, size)
    backing_file = _backing_file(source, backing_at, backing_size)
    encrypt = _CRYPT_METHODS[crypt]
    return header.Header(
        format="qcow",
        virtual_size=reading.whole_sectors(size),
        cluster_size=1 << cluster_bits,
        least_length=l1_at + 8 * -(-size // (1 << cluster_bits + l2_bits)),
        backing_file=backing_file,
        encrypted=encrypt is not None,
        options={"encrypt_format": encrypt} if encrypt else {},
        references=() if backing_file is None else (header.Reference("backing_file", backing_file),),
    )


def _backing_file(source: header.ByteSource, offset: int, size: int) -> str | None:
    if not offset:
        return None
    reading.require(size <= _NAME_LIMIT, f"a backing file name of {size} bytes")
    return reading.text(reading.exactly(source, offset, size, "the backing file name")) or None


def data_end(source: header.ByteSource) -> int:
    """The byte behind the last of the data that the tables lead to. Raises HeaderError."""
    fields = _HEADER.unpack(reading.exactly(source, 0, _HEADER.size, "the qcow header"))
    size, cluster_bits, l2_bits, l1_at = fields[5], fields[6], fields[7], fields[10]
    entries = -(-size // (1 << cluster_bits + l2_bits))
    tables = struct.unpack(">%dQ" % entries, reading.exactly(source, l1_at, 8 * entries, "the L1 table"))
    return max((_end_in(source, at, cluster_bits, l2_bits) for at in tables if at), default=0)


def _end_in(source: header.ByteSource, at: int, cluster_bits: int, l2_bits: int) -> int:
    """A compressed cluster has its length above its offset; it may end where the file does, which is no whole sector."""
    entries = struct.unpack(">%dQ" % (1 << l2_bits), reading.exactly(source, at, 8 << l2_bits, "an L2 table"))
    cluster, shift = 1 << cluster_bits, 63 - cluster_bits
    plain = (entry + cluster for entry in entries if entry and not entry >> 63)
    packed = ((e & (1 << shift) - 1) + (e >> shift & cluster - 1) for e in entries if e >> 63)
    return max((*plain, *packed), default=0)
