"""What md writes on a leg, made from its documented layout, is read as it is; what is damaged is not believed."""

from __future__ import annotations

import struct
import uuid

from ansible_collections.platter.qemu.plugins.module_utils._formats import md_superblock
from ansible_collections.platter.qemu.tests.lab import superblocks

ARRAY = uuid.UUID("12345678-9abc-def0-1234-56789abcdef0")
LENGTH = 16 << 20


class Disk:
    """A ByteSource."""

    length = LENGTH

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self, offset: int, size: int) -> bytes:
        return self._content[offset : offset + size].ljust(size, b"\0")


def leg(minor: int = 2) -> bytearray:
    at, block = superblocks.md_1(LENGTH, minor, ARRAY, "any:data")
    return bytearray(bytes(at) + block)


def read(content: bytearray) -> md_superblock.Superblock | None:
    return md_superblock.read_superblock(Disk(bytes(content)))


def test_a_leg_says_what_it_belongs_to_and_who_was_there() -> None:
    found = read(leg())
    assert found is not None
    assert (found.uuid, found.name, found.level, found.disks) == (str(ARRAY), "any:data", 1, 2)
    assert (found.slot, found.active, found.events, found.policy) == (0, frozenset({0, 1}), 5, "resync")
    assert found.leg == str(uuid.UUID(int=7))


def test_nothing_and_other_places_are_no_leg() -> None:
    assert read(bytearray()) is None
    assert read(leg(1)) is None


def test_one_bit_more_or_less_is_noticed() -> None:
    for at in (16, 72, 200, 256):
        content = leg()
        content[4096 + at] ^= 1
        assert read(content) is None, at


def test_more_roles_than_there_is_room_for_are_not_read() -> None:
    content = leg()
    struct.pack_into("<I", content, 4096 + 220, 1 << 20)
    assert read(content) is None
