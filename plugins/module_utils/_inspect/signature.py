# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""One signature, and the two stretches of a disk where all of them are."""

from __future__ import annotations

import struct
import typing as t
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._core import header

#: Everything at the beginning is before this, the last thing being ZFS's uberblocks.
_HEAD = 0x21000
#: Everything at the end is behind this: md 0.90 lies up to 128 KiB before the end.
_TAIL = 0x20000


@dataclass(frozen=True)
class Signature:
    """Something that says what a disk is used for. C(type) as blkid calls it."""

    type: str
    uuid: str = ""
    label: str = ""
    #: the byte behind its last one, by its own account
    end: int | None = None

    def __str__(self) -> str:
        named = (self.type, self.label and f'"{self.label}"', self.uuid and f"UUID {self.uuid}")
        return " ".join(part for part in named if part)


class View:
    """Reads the head and the tail of a source once: for a guest's view every read is a process."""

    def __init__(self, source: header.ByteSource) -> None:
        self._source = source
        self.length = source.length
        self._head = source.read(0, min(_HEAD, source.length))
        self._tail_at = max(0, source.length - _TAIL) // 512 * 512
        self._tail: bytes | None = None

    def read(self, offset: int, size: int) -> bytes:
        """C(size) bytes; what lies behind the end reads as zeros, what lies before the beginning too."""
        if offset < 0 or offset >= self.length:
            return bytes(size)
        if offset + size <= len(self._head):
            data = self._head[offset : offset + size]
        elif offset >= self._tail_at:
            if self._tail is None:
                self._tail = self._source.read(self._tail_at, self.length - self._tail_at)
            data = self._tail[offset - self._tail_at : offset - self._tail_at + size]
        else:
            data = self._source.read(offset, size)
        return data.ljust(size, b"\0")

    def number(self, format: str, offset: int) -> int:
        """One number in C(struct)'s notation."""
        return int(struct.unpack(format, self.read(offset, struct.calcsize(format)))[0])

    def text(self, offset: int, size: int) -> str:
        """A name of fixed length: up to the first NUL, without spaces behind."""
        return self.read(offset, size).split(b"\0", 1)[0].decode("utf-8", "replace").rstrip()

    def uuid(self, offset: int) -> str:
        """Sixteen bytes as a UUID."""
        return uuid_text(self.read(offset, 16))


def uuid_text(data: bytes) -> str:
    """8-4-4-4-12; empty when there is none."""
    text = data.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:])) if any(data) else ""


Probe = t.Callable[[View], t.Optional[Signature]]
