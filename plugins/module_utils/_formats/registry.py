# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Which formats there are, which of them some bytes claim to be, and the reader of each."""

from __future__ import annotations

import functools
import re
import struct
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, header

Reader = t.Callable[[header.ByteSource], header.Header]

FORMAT_NAMES = ("raw", "qcow", "qcow2", "qed", "vdi", "vmdk", "vhdx", "vpc", "parallels", "luks")

#: (offset, bytes, format). qcow, LUKS and VMDK's text have rules of their own below.
_SIGNATURES = (
    (0, b"QED\0", "qed"),
    (64, b"\x7f\x10\xda\xbe", "vdi"),
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vpc"),
    (0, b"WithoutFreeSpace", "parallels"),
    (0, b"WithouFreSpacExt", "parallels"),
    (0, b"LUKS\xba\xbe\0\1", "luks"),
)
_FOREIGN_SIGNATURES = (
    (0, b"Bochs Virtual HD Image", "bochs"),
    (0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop", "cloop"),
    (0, b"koly", "dmg"),
    (0, b"LUKS\xba\xbe\0\2", "luks2"),
    (0, b"\x7fELF", "elf"),
    (510, b"\x55\xaa", "mbr"),
    (512, b"EFI PART", "gpt"),
    (4096, b"EFI PART", "gpt"),
    (32769, b"CD001", "iso9660"),
)
_DESCRIPTOR = re.compile(rb"(?:[ \t]*(?:#[^\n]*)?\r?\n)*[ \t]*version=[123]\r?\n")


def detect(first: bytes, last: bytes = b"") -> tuple[str, ...]:
    """Every format but raw that the bytes claim to be. Several of them: programs will not agree on what it is.

    C(first) are the first 512 bytes or more, C(last) the last 512: a fixed VHD has its footer only there.
    """
    found = set(_matching(_SIGNATURES, first))
    if first[:4] == b"QFI\xfb":
        found.add("qcow" if first[4:8] == struct.pack(">I", 1) else "qcow2")
    if _is_descriptor(first):
        found.add("vmdk")
    if last[-512:][:8] == b"conectix":
        found.add("vpc")
    return tuple(name for name in FORMAT_NAMES if name in found)


def foreign_signatures(first: bytes, last: bytes = b"") -> tuple[str, ...]:
    """What else the bytes look like that no reader here reads: disk labels, other disk images, CDs.

    An ordinary raw disk has C(mbr) or C(gpt). C(iso9660) needs the first 33 KiB, C(dmg) the last 512 bytes.
    """
    found = set(_matching(_FOREIGN_SIGNATURES, first))
    if last[-512:][:4] == b"koly":
        found.add("dmg")
    return tuple(sorted(found))


def _matching(signatures: t.Iterable[tuple[int, bytes, str]], first: bytes) -> t.Iterator[str]:
    for offset, magic, name in signatures:
        if first[offset : offset + len(magic)] == magic:
            yield name


def _is_descriptor(first: bytes) -> bool:
    """VMDK's text file: comments and empty lines, then its version."""
    return first[:21] == b"# Disk DescriptorFile" or _DESCRIPTOR.match(first[:4096]) is not None


# Each reader is imported where it is needed: Ansible finds these import statements and ships the files all the same,
# and Python on the managed host, which compiles what it imports every time, compiles one reader and not ten.


def _raw() -> Reader:
    from ansible_collections.platter.qemu.plugins.module_utils._formats.raw import read

    return read


def _qcow() -> Reader:
    from ansible_collections.platter.qemu.plugins.module_utils._formats.qcow import read

    return read


def _qcow2() -> Reader:
    from ansible_collections.platter.qemu.plugins.module_utils._formats.qcow2 import read

    return read


def _qed() -> Reader:
    from ansible_collections.platter.qemu.plugins.module_utils._formats.qed import read

    return read


def _vdi() -> Reader:
    from ansible_collections.platter.qemu.plugins.module_utils._formats.vdi import read

    return read


def _vmdk() -> Reader:
    from ansible_collections.platter.qemu.plugins.module_utils._formats.vmdk import read

    return read


def _vhdx() -> Reader:
    from ansible_collections.platter.qemu.plugins.module_utils._formats.vhdx import read

    return read


def _vpc() -> Reader:
    from ansible_collections.platter.qemu.plugins.module_utils._formats.vpc import read

    return read


def _parallels() -> Reader:
    from ansible_collections.platter.qemu.plugins.module_utils._formats.parallels import read

    return read


def _luks() -> Reader:
    from ansible_collections.platter.qemu.plugins.module_utils._formats.luks import read

    return read


_READERS: t.Mapping[str, t.Callable[[], Reader]] = {
    "raw": _raw,
    "qcow": _qcow,
    "qcow2": _qcow2,
    "qed": _qed,
    "vdi": _vdi,
    "vmdk": _vmdk,
    "vhdx": _vhdx,
    "vpc": _vpc,
    "parallels": _parallels,
    "luks": _luks,
}


def read_header(format: str, source: header.ByteSource) -> header.Header:
    """The facts in the header of an image that is declared to be C(format). Raises HeaderError."""
    return _reader(format)(source)


def read_names(format: str, source: header.ByteSource) -> header.Header:
    """As C(read_header), but no more than what other files the image names need be right. Raises HeaderError."""
    if format == "qcow2":  # the others have nothing behind the names
        from ansible_collections.platter.qemu.plugins.module_utils._formats import qcow2

        return qcow2.read_names(source)
    return read_header(format, source)


@functools.lru_cache(maxsize=None)
def _reader(format: str) -> Reader:
    """An import statement that has nothing left to do still takes as long as reading a header."""
    if format not in _READERS:
        raise errors.HeaderError(f"{format!r} is not a format that is known here")
    return _READERS[format]()
