# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""What holds other things: md, LVM, LUKS, bcache, ZFS. Their content can be anywhere, so they end with the disk."""

from __future__ import annotations

import struct

from ansible_collections.platter.qemu.plugins.module_utils._inspect import signature

_MD_MAGIC = 0xA92B4EFC
_BCACHE_MAGIC = bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81")
#: The beginning of ZFS's label: an nvlist in XDR from a little- or big-endian host.
_NVLISTS = (b"\1\1\0\0\0\0\0\0\0\0\0\1", b"\1\0\0\0\0\0\0\0\0\0\0\1")
_UBERBLOCKS = (struct.pack("<Q", 0x00BAB10C), struct.pack(">Q", 0x00BAB10C))


def _md_1(view: signature.View) -> signature.Signature | None:
    """md 1.1 at the beginning, 1.2 4 KiB behind it, 1.0 at the end, on a multiple of 4 KiB."""
    for at in (0, 4096, (view.length // 512 - 16) // 8 * 8 * 512):
        magic, major, _features = struct.unpack("<III", view.read(at, 12))
        if at >= 0 and (magic, major) == (_MD_MAGIC, 1) and view.number("<Q", at + 144) * 512 == at:
            return signature.Signature("linux_raid_member", view.uuid(at + 16), view.text(at + 32, 32), view.length)
    return None


def _md_0_90(view: signature.View) -> signature.Signature | None:
    """md 0.90 in the last but one 64 KiB; in the byte order of the host that made it."""
    at = view.length // 65536 * 65536 - 65536
    for order in "<>":
        magic, major, minor = struct.unpack(order + "III", view.read(at, 12))
        if at >= 0 and (magic, major, minor) == (_MD_MAGIC, 0, 90):
            words = [struct.unpack(order + "I", view.read(at + offset, 4))[0] for offset in (20, 52, 56, 60)]
            return signature.Signature(
                "linux_raid_member", signature.uuid_text(struct.pack(">4I", *words)), end=view.length
            )
    return None


def _lvm(view: signature.View) -> signature.Signature | None:
    """The label is in one of the first four sectors."""
    for at in range(0, 2048, 512):
        if view.read(at, 8) == b"LABELONE" and view.read(at + 24, 8) == b"LVM2 001":
            header = at + view.number("<I", at + 20)
            text = view.text(header, 32)
            cuts = (0, 6, 10, 14, 18, 22, 26, 32)
            name = "-".join(text[start:end] for start, end in zip(cuts, cuts[1:]))
            return signature.Signature("LVM2_member", name, end=view.number("<Q", header + 32) or view.length)
    return None


def _luks(view: signature.View) -> signature.Signature | None:
    """LUKS 1 and 2; of LUKS 2 the second header as well, where the first was wiped."""
    places = [(0, b"LUKS\xba\xbe"), *((0x4000 << step, b"SKUL\xba\xbe") for step in range(3))]
    for at, magic in places:
        version = view.number(">H", at + 6)
        if view.read(at, 6) == magic and version in (1, 2):
            label = view.text(at + 24, 48) if version == 2 else ""
            return signature.Signature("crypto_LUKS", view.text(at + 168, 40), label, view.length)
    return None


def _bcache(view: signature.View) -> signature.Signature | None:
    found = view.read(4096 + 24, 16) == _BCACHE_MAGIC
    return signature.Signature("bcache", view.uuid(4096 + 40), end=view.length) if found else None


def _zfs(view: signature.View) -> signature.Signature | None:
    """The first of the four labels: a list of names and values at 16 KiB, uberblocks from 128 KiB on."""
    nvlist = view.read(0x4000, 4096)
    uberblocks = view.read(0x20000, 0x1000)
    blocks = (uberblocks[at : at + 8] for at in range(0, len(uberblocks), 1024))
    if not nvlist.startswith(_NVLISTS) and not any(block in _UBERBLOCKS for block in blocks):
        return None
    return signature.Signature(
        "zfs_member", _nvlist_number(nvlist, b"pool_guid"), _nvlist_text(nvlist, b"name"), view.length
    )


def _nvlist_value(nvlist: bytes, name: bytes) -> bytes:
    """What stands behind a name: the name is padded to four bytes, then type and count, four bytes each."""
    key = struct.pack(">I", len(name)) + name + bytes(-len(name) % 4)
    return nvlist.partition(key)[2][8:]


def _nvlist_text(nvlist: bytes, name: bytes) -> str:
    value = _nvlist_value(nvlist, name)
    return value[4 : 4 + int.from_bytes(value[:4], "big")].decode("utf-8", "replace")


def _nvlist_number(nvlist: bytes, name: bytes) -> str:
    value = _nvlist_value(nvlist, name)[:8]
    return str(int.from_bytes(value, "big")) if value else ""


PROBES: tuple[signature.Probe, ...] = (_md_1, _md_0_90, _lvm, _luks, _bcache, _zfs)
