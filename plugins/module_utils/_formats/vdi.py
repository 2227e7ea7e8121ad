# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""vdi: VirtualBox disk images, version 1.1."""

from __future__ import annotations

import struct
import uuid

from ansible_collections.platter.qemu.plugins.module_utils._core import header
from ansible_collections.platter.qemu.plugins.module_utils._core.size import round_up
from ansible_collections.platter.qemu.plugins.module_utils._formats import reading

#: From the signature at 64 to the parent's UUID; between them 256 bytes of description.
_HEADER = struct.Struct("<IIIII256sIIIIIIIQIIII16s16s16s16s")
_SIGNATURE, _VERSION = 0xBEDA107F, 0x00010001
_BLOCK = 1 << 20
_STATIC = 2


def read(source: header.ByteSource) -> header.Header:
    fields = _HEADER.unpack(reading.exactly(source, 64, _HEADER.size, "the vdi header"))
    signature, version, _size, kind, _flags, _text, map_at, data_at, _c, _h, _s, sector, _u, *rest = fields
    disk_size, block_size, _extra, blocks, allocated, _own, _last_snapshot, link, parent = rest
    reading.require(signature == _SIGNATURE, "no vdi signature")
    reading.require(version == _VERSION, f"vdi version {version >> 16}.{version & 0xFFFF} is not 1.1")
    reading.require(
        map_at % reading.SECTOR == 0 and data_at % reading.SECTOR == 0, "vdi offsets are not in whole sectors"
    )
    reading.require(sector == reading.SECTOR, f"vdi sector size {sector} is not 512")
    reading.require(block_size == _BLOCK, f"vdi block size {block_size} is not 1 MiB")
    size = round_up(disk_size, reading.SECTOR)
    reading.require(size <= blocks * block_size, f"the vdi has {blocks} blocks, too few for {size} bytes")
    return header.Header(
        format="vdi",
        virtual_size=size,
        cluster_size=block_size,
        least_length=max(map_at + 4 * blocks, data_at + allocated * block_size),
        options={"static": kind == _STATIC},
        references=tuple(header.Reference("parent", str(uuid.UUID(bytes_le=i))) for i in (link, parent) if any(i)),
    )
