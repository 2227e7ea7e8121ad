"""Superblocks made from their documented layout, for things whose own programs need a kernel module or a pool."""

from __future__ import annotations

import struct
import uuid
import zlib

MD_MAGIC = 0xA92B4EFC
SECTOR = 512
MIB = 1 << 20


def md_1(length: int, minor: int, array: uuid.UUID, name: str, member: int = 0) -> tuple[int, bytes]:
    """(offset, bytes) of a version 1 superblock: RAID1, a member of 2 (C(linux/raid/md_p.h))."""
    sectors = length // SECTOR
    at = {0: (sectors - 16) // 8 * 8, 1: 0, 2: 8}[minor]
    data = 0 if minor == 0 else 2048
    block = bytearray(256 + 2 * 128)
    struct.pack_into("<IIII16s32s", block, 0, MD_MAGIC, 1, 0, 0, array.bytes, name.encode())
    # ctime, level, layout, size, chunk size, disks, offset of the bitmap
    struct.pack_into("<QiIQIII", block, 64, 1_700_000_000, 1, 0, sectors - 4096, 0, 2, 0)
    struct.pack_into("<QQQQ", block, 128, data, sectors - 4096, at, 0)  # data offset and size, super offset, recovery
    struct.pack_into(
        "<II16s", block, 160, member, 0, uuid.UUID(int=7 + member).bytes
    )  # number, corrected reads, device
    struct.pack_into("<QQQIII", block, 192, 1_700_000_000, 5, 2**64 - 1, 0, 128, 0)
    # above: update time, events, resync offset, checksum, roles
    for role in range(128):
        struct.pack_into("<H", block, 256 + 2 * role, role if role < 2 else 0xFFFF)
    struct.pack_into("<I", block, 216, _md_1_checksum(block))
    return at * SECTOR, bytes(block)


def _md_1_checksum(block: bytearray) -> int:
    return _folded(sum(struct.unpack(f"<{len(block) // 4}I", block)))


def _folded(total: int) -> int:
    return (total & 0xFFFFFFFF) + (total >> 32) & 0xFFFFFFFF


def md_0_90(length: int, array: tuple[int, int, int, int], order: str = "<") -> tuple[int, bytes]:
    """(offset, bytes) of a version 0.90 superblock. Layout: mdp_superblock_s, 1024 words of the host's byte order."""
    words = [0] * 1024
    words[0:15] = [MD_MAGIC, 0, 90, 0, 0, array[0], 1_700_000_000, 1, length // 1024 - 128, 2, 2, 0, 0, *array[1:3]]
    words[15] = array[3]
    words[32:40] = [1_700_000_000, 1, 2, 2, 0, 0, 0, 5]  # utime, state, active, working, failed, spare, csum, events
    for disk in range(2):
        words[128 + 32 * disk : 133 + 32 * disk] = [disk, 7, disk, disk, 6]
    words[992:997] = words[128:133]
    words[38] = _folded(sum(words))
    return length // 65536 * 65536 - 65536, struct.pack(f"{order}1024I", *words)


def lvm(length: int, name: str) -> tuple[int, bytes]:
    """(offset, bytes) of the label of an LVM2 physical volume, in the second sector; C(name) has 32 characters."""
    block = bytearray(512)
    struct.pack_into("<8sQII8s", block, 0, b"LABELONE", 1, 0, 32, b"LVM2 001")
    struct.pack_into("<32sQQQ", block, 32, name.encode(), length, MIB, 0)
    checksum = zlib.crc32(bytes(block[20:]), 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    struct.pack_into("<I", block, 16, checksum)
    return 512, bytes(block)


def bcache(backing: uuid.UUID) -> tuple[int, bytes]:
    """(offset, bytes) of bcache's superblock of a backing device. Layout: C(include/uapi/linux/bcache.h)."""
    magic = bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81")
    block = bytearray(4096)
    struct.pack_into("<QQQ16s16s16s", block, 0, 0, 8, 1, magic, backing.bytes, uuid.UUID(int=9).bytes)
    struct.pack_into("<QHHH", block, 192, 0, 1, 1, 1)
    struct.pack_into("<Q", block, 0, _crc64(bytes(block[8:208])))
    return 4096, bytes(block)


def _crc64(data: bytes) -> int:
    crc = 0xFFFFFFFFFFFFFFFF
    for byte in data:
        crc ^= byte << 56
        for _bit in range(8):
            crc = (crc << 1 ^ (0x42F0E1EBA9EA3693 if crc >> 63 else 0)) & 0xFFFFFFFFFFFFFFFF
    return crc ^ 0xFFFFFFFFFFFFFFFF


def zfs(pool: str, guid: int) -> list[tuple[int, bytes]]:
    """(offset, bytes) pieces of ZFS's first label: the list of names and values, and some uberblocks."""

    def pair(name: bytes, kind: int, value: bytes) -> bytes:
        padded = struct.pack(">I", len(name)) + name + bytes(-len(name) % 4)
        body = padded + struct.pack(">II", kind, 1) + value
        return struct.pack(">II", len(body) + 8, 64) + body

    text = pool.encode()
    string = struct.pack(">I", len(text)) + text + bytes(-len(text) % 4)
    pairs = pair(b"version", 8, struct.pack(">Q", 5000)) + pair(b"name", 9, string)
    pairs += pair(b"pool_guid", 8, struct.pack(">Q", guid)) + pair(b"guid", 8, struct.pack(">Q", guid + 1))
    nvlist = b"\1\1\0\0" + struct.pack(">II", 0, 1) + pairs + bytes(8)
    uberblock = struct.pack("<QQQQQ", 0x00BAB10C, 5000, 1, guid, 1_700_000_000).ljust(1024, b"\0")
    return [(16384, nvlist), (131072, uberblock * 8)]


def iso9660(label: str, blocks: int) -> tuple[int, bytes]:
    """(offset, bytes) of the primary volume descriptor of an ISO 9660 file system."""
    block = bytearray(2048)
    block[0:7] = b"\1CD001\1"
    block[8:40], block[40:72] = b"LINUX".ljust(32), label.encode().ljust(32)
    struct.pack_into("<I", block, 80, blocks)
    struct.pack_into("<H", block, 128, 2048)
    return 32768, bytes(block)
