# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""qcow, version 1: QEMU's first copy-on-write format."""

from __future__ import annotations

import struct

from ansible_collections.platter.qemu.plugins.module_utils._core.header import ByteSource, Header, Reference
from ansible_collections.platter.qemu.plugins.module_utils._formats.reading import (
    exactly,
    require,
    require_size,
    text,
    whole_sectors,
)

_HEADER = struct.Struct(">4sIQIIQBBHIQ")
_NAME_LIMIT = 1023
_CRYPT_METHODS = {0: None, 1: "aes"}


def read(source: ByteSource) -> Header:
    fields = _HEADER.unpack(exactly(source, 0, _HEADER.size, "the qcow header"))
    magic, version, backing_at, backing_size, _mtime, size, cluster_bits, l2_bits, _pad, crypt, _l1 = fields
    require(magic == b"QFI\xfb" and version == 1, "no qcow version 1 magic")
    require_size(1 < size < 1 << 63, size)
    require(9 <= cluster_bits <= 16, f"qcow cluster_bits {cluster_bits} is not 9 to 16")
    require(6 <= l2_bits <= 13, f"qcow l2_bits {l2_bits} is not 6 to 13")
    require(crypt in _CRYPT_METHODS, f"qcow crypt_method {crypt} is unknown")
    require_size(size >> (cluster_bits + l2_bits) < 2**31 // 8, size)
    backing_file = _backing_file(source, backing_at, backing_size)
    encrypt = _CRYPT_METHODS[crypt]
    return Header(
        format="qcow",
        virtual_size=whole_sectors(size),
        cluster_size=1 << cluster_bits,
        backing_file=backing_file,
        encrypted=encrypt is not None,
        options={"encrypt_format": encrypt} if encrypt else {},
        references=() if backing_file is None else (Reference("backing_file", backing_file),),
    )


def _backing_file(source: ByteSource, offset: int, size: int) -> str | None:
    if not offset:
        return None
    require(size <= _NAME_LIMIT, f"a backing file name of {size} bytes")
    return text(exactly(source, offset, size, "the backing file name")) or None
