# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""File systems and swap, and where they end by their own superblocks."""

from __future__ import annotations

import struct

from ansible_collections.platter.qemu.plugins.module_utils._inspect import signature

# ext2, 3 and 4: features that an older one does not have
_HAS_JOURNAL = 0x4
_JOURNAL_DEVICE, _64BIT = 0x8, 0x80
_EXT3_INCOMPATIBLE, _EXT3_READ_ONLY = 0x2 | 0x4 | 0x10, 0x1 | 0x2 | 0x4


def _ext(view: signature.View) -> signature.Signature | None:
    sb = 1024
    if view.number("<H", sb + 56) != 0xEF53:
        return None
    compatible, incompatible, read_only = struct.unpack("<III", view.read(sb + 92, 12))
    blocks = view.number("<I", sb + 4)
    if incompatible & _64BIT:
        blocks |= view.number("<I", sb + 336) << 32
    end = blocks * (1024 << min(view.number("<I", sb + 24), 10))
    return signature.Signature(
        _ext_type(compatible, incompatible, read_only), view.uuid(sb + 104), view.text(sb + 120, 16), end
    )


def _ext_type(compatible: int, incompatible: int, read_only: int) -> str:
    if incompatible & _JOURNAL_DEVICE:
        return "jbd"
    if incompatible & ~_EXT3_INCOMPATIBLE or read_only & ~_EXT3_READ_ONLY:
        return "ext4"
    return "ext3" if compatible & _HAS_JOURNAL else "ext2"


def _xfs(view: signature.View) -> signature.Signature | None:
    if view.read(0, 4) != b"XFSB":
        return None
    block, blocks = struct.unpack(">IQ", view.read(4, 12))
    return signature.Signature("xfs", view.uuid(32), view.text(108, 12), block * blocks)


def _btrfs(view: signature.View) -> signature.Signature | None:
    """C(end) is this device's part of it."""
    sb = 0x10000
    if view.read(sb + 64, 8) != b"_BHRfS_M":
        return None
    return signature.Signature("btrfs", view.uuid(sb + 32), view.text(sb + 299, 256), view.number("<Q", sb + 209))


def _swap(view: signature.View) -> signature.Signature | None:
    """The mark is at the end of the first page, and pages differ between processors."""
    for page in (4096, 8192, 16384, 32768, 65536):
        if view.read(page - 10, 10) in (b"SWAPSPACE2", b"SWAP-SPACE"):
            end = (view.number("<I", 1028) + 1) * page
            return signature.Signature("swap", view.uuid(1036), view.text(1052, 16), end)
    return None


def _fat(view: signature.View) -> signature.Signature | None:
    large = view.read(82, 8) == b"FAT32   "
    small = view.read(54, 8) in (b"FAT12   ", b"FAT16   ", b"FAT     ")
    if view.read(510, 2) != b"\x55\xaa" or not (large or small):
        return None
    sector, sectors = view.number("<H", 11), view.number("<H", 19) or view.number("<I", 32)
    at = 67 if large else 39
    serial = f"{view.number('<I', at):08X}"
    label = view.text(at + 4, 11)
    return signature.Signature(
        "vfat", f"{serial[:4]}-{serial[4:]}", "" if label == "NO NAME" else label, sector * sectors
    )


def _ntfs(view: signature.View) -> signature.Signature | None:
    """A copy of the boot sector stands behind the last sector."""
    if view.read(3, 8) != b"NTFS    " or view.read(510, 2) != b"\x55\xaa":
        return None
    end = (view.number("<Q", 40) + 1) * view.number("<H", 11)
    return signature.Signature("ntfs", f"{view.number('<Q', 72):016X}", end=end)


def _exfat(view: signature.View) -> signature.Signature | None:
    if view.read(3, 8) != b"EXFAT   ":
        return None
    serial = f"{view.number('<I', 100):08X}"
    end = view.number("<Q", 72) << min(view.number("<B", 108), 12)
    return signature.Signature("exfat", f"{serial[:4]}-{serial[4:]}", end=end)


def _iso9660(view: signature.View) -> signature.Signature | None:
    descriptor = 0x8000
    if view.read(descriptor + 1, 5) != b"CD001":
        return None
    end = view.number("<I", descriptor + 80) * (view.number("<H", descriptor + 128) or 2048)
    return signature.Signature("iso9660", label=view.text(descriptor + 40, 32), end=end)


PROBES: tuple[signature.Probe, ...] = (_ext, _xfs, _btrfs, _swap, _fat, _ntfs, _exfat, _iso9660)
