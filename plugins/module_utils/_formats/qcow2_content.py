# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a qcow2 image and its internal snapshots hold, told apart by their first-level tables.

Two views with equal tables are equal byte for byte: the tables lead to the same clusters, and a cluster that several
views lead to is copied before it is written to (docs/interop/qcow2.txt: COPIED flag). The reverse is not so.
"""

from __future__ import annotations

import hashlib
import struct
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import header
from ansible_collections.platter.qemu.plugins.module_utils._formats import qcow2_tables, reading

_HEADER = struct.Struct(">4sIQIIQIIQQIIQ")
_SNAPSHOT = struct.Struct(">QIHHIIQII")
#: entries read of one table at most (32 MiB is what QEMU itself allows, block/qcow2.h: QCOW_MAX_L1_SIZE)
_MOST_ENTRIES = 4 << 20


class Contents(t.NamedTuple):
    """C(active): the token of what the guest sees; C(empty): the image itself holds none of it.

    C(snapshots): one token for each entry of the snapshot table, in its order.
    """

    active: str
    empty: bool
    snapshots: t.Tuple[str, ...]


def read_contents(source: header.ByteSource) -> Contents:
    """The tokens of a qcow2 image. Raises HeaderError when its tables are not where the header says."""
    fields = _HEADER.unpack(reading.exactly(source, 0, _HEADER.size, "the qcow2 header"))
    reading.require(fields[0] == b"QFI\xfb", "no qcow2 magic")
    size, l1_size, l1_offset, count, offset = fields[5], fields[7], fields[8], fields[11], fields[12]
    entries = _table(source, l1_offset, l1_size)
    snapshots = []
    for _index in range(count):
        token, offset = _snapshot(source, offset, size)
        snapshots.append(token)
    return Contents(_token(entries, size), not entries, tuple(snapshots))


def _snapshot(source: header.ByteSource, at: int, size: int) -> t.Tuple[str, int]:
    """The token of the entry at C(at), and where the next one begins."""
    head = _SNAPSHOT.unpack(reading.exactly(source, at, _SNAPSHOT.size, "the snapshot table"))
    l1_offset, l1_size, id_size, name_size, extra_size = head[0], head[1], head[2], head[3], head[8]
    if extra_size >= 16:  # version 3 says how large the disk was
        size = int.from_bytes(reading.exactly(source, at + _SNAPSHOT.size + 8, 8, "the snapshot table"), "big")
    length = _SNAPSHOT.size + extra_size + id_size + name_size
    return _token(_table(source, l1_offset, l1_size), size), at + -(-length // 8) * 8


def _table(source: header.ByteSource, offset: int, count: int) -> t.Tuple[int, ...]:
    """The offsets of a first-level table, without the empty ones at its end."""
    reading.require(count <= _MOST_ENTRIES, "a first-level table of %d entries" % count)
    data = reading.exactly(source, offset, 8 * count, "a first-level table") if count else b""
    entries = [entry & qcow2_tables.L2_OFFSET for entry in struct.unpack(">%dQ" % count, data)]
    while entries and not entries[-1]:
        entries.pop()
    return tuple(entries)


def _token(entries: t.Tuple[int, ...], size: int) -> str:
    packed = struct.pack(">%dQ" % len(entries), *entries)
    return "%s:%d" % (hashlib.sha256(packed).hexdigest()[:32], size)
