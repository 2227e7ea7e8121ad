# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Bounded reads for the format readers: what is not there, or not in the file, is a HeaderError."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, header

SECTOR = 512


def exactly(source: header.ByteSource, offset: int, size: int, what: str) -> bytes:
    """C(size) bytes at C(offset); the file must have them. Keeps hostile offsets away from the source."""
    if offset < 0 or size < 0 or offset + size > source.length:
        raise errors.HeaderError(f"{what} is at bytes {offset} to {offset + size}, beyond the end of the file")
    data = source.read(offset, size)
    if len(data) != size:
        raise errors.HeaderError(f"{what} could not be read whole")
    return data


def require(condition: t.Any, sentence: str) -> None:
    """The one way a reader says that bytes are not well formed."""
    if not condition:
        raise errors.HeaderError(sentence)


def require_size(condition: t.Any, size: int) -> None:
    """The virtual size is one that no disk can have: the error's facts say C(reason=bad_size)."""
    if not condition:
        raise errors.HeaderError(f"a virtual size of {size} bytes", reason="bad_size", virtual_size=size)


def text(data: bytes) -> str:
    """A C string: up to the first NUL. Bytes that are not UTF-8 survive as surrogates, as in Python's file names."""
    return data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def whole_sectors(size: int) -> int:
    """QEMU counts in sectors: what a header says beyond a whole sector is not part of the disk."""
    return size // SECTOR * SECTOR
