# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What md has written on a leg of an array (version 1.2, 4 KiB behind the beginning).

Fact: linux/raid/md_p.h, struct mdp_superblock_1; the checksum is that of C(calc_sb_1_csum()) in drivers/md/md.c.
"""

from __future__ import annotations

import struct
import typing as t
import uuid

from ansible_collections.platter.qemu.plugins.module_utils._core import header, words

AT, _SIZE, _MAGIC = 4096, 4096, 0xA92B4EFC
_ROLES, _MOST_ROLES = 256, (_SIZE - 256) // 2
#: roles that are no slot: spare, faulty, journal
_JOURNAL = 0xFFFD
_BITMAP, _PARTIAL, _RESHAPING, _HAS_JOURNAL, _PPL = 1, 2, 4, 1 << 9, 1 << 10 | 1 << 11
_POLICIES = ((_HAS_JOURNAL, "journal"), (_PPL, "ppl"), (_BITMAP, "bitmap"))


class Superblock(t.NamedTuple):
    """C(uuid): of the array; C(leg): of this disk in it. C(active): the slots that had all the data when it was written,
    or were being filled, as this leg knows it. C(slot): its own; None of a spare or journal. C(events) grow with each change
    of the array. C(partial): it was being filled. C(number): of this disk among all that the array ever had, and
    C(holders): the numbers of those in C(active), by slot.
    """

    uuid: str
    name: str
    leg: str
    level: int
    disks: int
    events: int
    slot: t.Optional[int]
    active: t.FrozenSet[int]
    policy: str
    reshaping: bool = False
    partial: bool = False
    number: int = -1
    holders: t.FrozenSet[t.Tuple[int, int]] = frozenset()


def read_superblock(source: header.ByteSource) -> t.Optional[Superblock]:
    """That of a disk; None where there is none, or one that is damaged. Raises what the source raises."""
    data = source.read(AT, _SIZE)
    if len(data) < _SIZE or struct.unpack_from("<II", data) != (_MAGIC, 1):
        return None
    most = struct.unpack_from("<I", data, 220)[0]
    if most > _MOST_ROLES or _checksum(data, most) != struct.unpack_from("<I", data, 216)[0]:
        return None
    roles = struct.unpack_from("<%dH" % most, data, _ROLES)
    level, _layout = struct.unpack_from("<iI", data, 72)
    disks, number = (struct.unpack_from("<I", data, at)[0] for at in (92, 160))
    features = struct.unpack_from("<I", data, 8)[0]
    own = roles[number] if number < most else _JOURNAL
    return Superblock(
        uuid=str(uuid.UUID(bytes=data[16:32])),
        name=words.printable(data[32:64].split(b"\0", 1)[0].decode("utf-8", "replace")),
        leg=str(uuid.UUID(bytes=data[168:184])),
        level=level,
        disks=disks,
        events=struct.unpack_from("<Q", data, 200)[0],
        slot=own if own < disks else None,
        active=frozenset(role for role in roles if role < disks),
        policy=next((name for bit, name in _POLICIES if features & bit), "resync"),
        reshaping=bool(features & _RESHAPING),
        partial=bool(features & _PARTIAL),
        number=number,
        holders=frozenset((role, each) for each, role in enumerate(roles) if role < disks),
    )


def _checksum(data: bytes, most: int) -> int:
    """The sum of all words but its own, and what that carries over; a last half word counts as one."""
    end = _ROLES + 2 * most
    covered = data[:216] + bytes(4) + data[220:end]
    total: int = sum(struct.unpack_from("<%dI" % (end // 4), covered))
    total += struct.unpack_from("<H", covered, end - 2)[0] if end % 4 else 0
    return (total & 0xFFFFFFFF) + (total >> 32) & 0xFFFFFFFF
