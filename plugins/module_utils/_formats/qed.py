# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""qed: QEMU enhanced disk. Layout: docs/interop/qed_spec.txt in QEMU's source."""

from __future__ import annotations

import struct

from ansible_collections.platter.qemu.plugins.module_utils._core import header
from ansible_collections.platter.qemu.plugins.module_utils._formats import reading

_HEADER = struct.Struct("<4sIIIQQQQQII")
_BACKING, _NEED_CHECK, _BACKING_IS_RAW = 1, 2, 4
_KNOWN = _BACKING | _NEED_CHECK | _BACKING_IS_RAW
_NAME_LIMIT = 1023


def read(source: header.ByteSource) -> header.Header:
    fields = _HEADER.unpack(reading.exactly(source, 0, _HEADER.size, "the qed header"))
    magic, cluster_size, table_size, clusters, features, _compatible, _autoclear, l1_at, size, name_at, name_size = (
        fields
    )
    reading.require(magic == b"QED\0", "no qed magic")
    _check_sizes(cluster_size, table_size, size)
    backing_file = None
    if features & _BACKING:
        reading.require(
            name_at + name_size <= cluster_size * clusters, "the backing file name is beyond the qed header"
        )
        backing_file = _backing_file(source, name_at, name_size)
    return header.Header(
        format="qed",
        virtual_size=size,
        cluster_size=cluster_size,
        least_length=l1_at + table_size * cluster_size,
        backing_file=backing_file,
        backing_format="raw" if backing_file is not None and features & _BACKING_IS_RAW else None,
        dirty=bool(features & _NEED_CHECK),
        options={"cluster_size": cluster_size, "table_size": table_size},
        references=() if backing_file is None else (header.Reference("backing_file", backing_file),),
        unknown_features=tuple(f"bit {bit}" for bit in range(64) if (features & ~_KNOWN) >> bit & 1),
    )


def _check_sizes(cluster_size: int, table_size: int, size: int) -> None:
    good = reading.is_power_of_two(cluster_size) and 4096 <= cluster_size <= 64 << 20
    reading.require(good, f"qed cluster_size {cluster_size} is not a power of two from 4K to 64M")
    reading.require(
        reading.is_power_of_two(table_size) and table_size <= 16, f"qed table_size {table_size} is not 1 to 16"
    )
    entries = table_size * cluster_size // 8
    reading.require_size(size % reading.SECTOR == 0, size)
    reading.require_size(size <= min(entries * entries * cluster_size, 2**63 - 1), size)


def _backing_file(source: header.ByteSource, offset: int, size: int) -> str | None:
    reading.require(size <= _NAME_LIMIT, f"a backing file name of {size} bytes")
    return reading.text(reading.exactly(source, offset, size, "the backing file name")) or None
