# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""parallels: Parallels Desktop's expanding images. Layout: docs/interop/parallels.txt in QEMU's source."""

from __future__ import annotations

import struct

from ansible_collections.platter.qemu.plugins.module_utils._core import header
from ansible_collections.platter.qemu.plugins.module_utils._formats import reading

_HEADER = struct.Struct("<16sIIIIIQIIIQ")
_OLD, _NEW = b"WithoutFreeSpace", b"WithouFreSpacExt"
_IN_USE = 0x746F6E59
_LARGEST_TRACK = (2**31 - 1) // 513


def read(source: header.ByteSource) -> header.Header:
    fields = _HEADER.unpack(reading.exactly(source, 0, _HEADER.size, "the parallels header"))
    magic, version, _heads, _cylinders, track, entries, sectors, in_use, _data, _flags, _extension = fields
    reading.require(magic in (_OLD, _NEW) and version == 2, "no parallels version 2 magic")
    reading.require(0 < track <= _LARGEST_TRACK, f"a parallels cluster of {track} sectors")
    reading.require(entries <= (2**31 - 1) // 4, f"a parallels catalog of {entries} entries")
    if magic == _OLD:
        sectors &= 0xFFFFFFFF
    reading.require_size(sectors < 2**63 // reading.SECTOR, sectors * reading.SECTOR)
    return header.Header(
        format="parallels",
        virtual_size=sectors * reading.SECTOR,
        cluster_size=track * reading.SECTOR,
        least_length=_HEADER.size + 4 * entries,
        dirty=in_use == _IN_USE,
        options={"cluster_size": track * reading.SECTOR},
    )
