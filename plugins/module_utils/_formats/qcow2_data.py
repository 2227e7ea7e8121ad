# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Where the data of a qcow2 image ends, by all of its second-level tables."""

from __future__ import annotations

import struct

from ansible_collections.platter.qemu.plugins.module_utils._core import header
from ansible_collections.platter.qemu.plugins.module_utils._formats import qcow2_tables, reading

_HEADER = struct.Struct(">4sIQIIQIIQ")
_COMPRESSED, _READS_AS_ZEROS = 1 << 62, 1


def data_end(source: header.ByteSource, extended: bool) -> int:
    """The byte behind the last cluster that the guest can see, in the file that holds the data. C(extended): the image
    has extended L2 entries. Raises HeaderError.
    """
    fields = _HEADER.unpack(reading.exactly(source, 0, _HEADER.size, "the qcow2 header"))
    cluster, l1_size, l1_at = 1 << fields[4], fields[7], fields[8]
    entries = struct.unpack(">%dQ" % l1_size, reading.exactly(source, l1_at, 8 * l1_size, "the L1 table"))
    tables = (entry & qcow2_tables.L2_OFFSET for entry in entries)
    return max((_end_in(source, at, cluster, 2 if extended else 1) for at in tables if at), default=0)


def _end_in(source: header.ByteSource, at: int, cluster: int, words: int) -> int:
    """C(words): of 64 bits in an entry."""
    entries = struct.unpack(">%dQ" % (cluster // 8), reading.exactly(source, at, cluster, "an L2 table"))[::words]
    used = [
        entry & qcow2_tables.L2_OFFSET for entry in entries if entry and not entry & (_COMPRESSED | _READS_AS_ZEROS)
    ]
    return max(used) + cluster if used else 0
