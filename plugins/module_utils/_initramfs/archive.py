# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""An archive in the form that Linux unpacks as its first file system (cpio, "newc"): the same entries, the same bytes. Pure."""

from __future__ import annotations

import stat
import typing as t
from dataclasses import dataclass

#: its first entry says whose it is
MARK = ".platter.qemu"


@dataclass(frozen=True)
class Entry:
    """C(name): without a slash at its beginning. C(mode): with the type. C(content): of a link, where it leads."""

    name: str
    mode: int
    content: bytes = b""


def directory(name: str) -> Entry:
    """A directory."""
    return Entry(name, stat.S_IFDIR | 0o755)


def program(name: str, content: bytes) -> Entry:
    """A file that can be executed."""
    return Entry(name, stat.S_IFREG | 0o755, content)


def file(name: str, content: bytes) -> Entry:
    """Another file."""
    return Entry(name, stat.S_IFREG | 0o644, content)


def link(name: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def render(entries: t.Iterable[Entry]) -> bytes:
    """The bytes of the archive, with all directories that the names need. Of two entries with one name, the first counts.

    All belong to root and have no times: C(Documentation/driver-api/early-userspace/buffer-format.rst) of Linux.
    """
    found: t.Dict[str, Entry] = {}
    for entry in (file(MARK, b""), *entries):
        for above in _above(entry.name):
            found.setdefault(above, directory(above))
        found.setdefault(entry.name, entry)
    ordered = [found[name] for name in sorted(found)] + [Entry("TRAILER!!!", 0)]
    return b"".join(_bytes(number, entry) for number, entry in enumerate(ordered, 1))


def is_ours(head: bytes) -> bool:
    """Whether a file that begins so was made here. C(head): 128 bytes of it, or more."""
    return head.startswith(b"070701") and head[_HEAD : _HEAD + len(MARK) + 1] == MARK.encode() + b"\0"


_HEAD = 110


def _above(name: str) -> t.Iterator[str]:
    parts = name.split("/")[:-1]
    for end in range(1, len(parts) + 1):
        yield "/".join(parts[:end])


def _bytes(number: int, entry: Entry) -> bytes:
    name = entry.name.encode("utf-8", "surrogateescape") + b"\0"
    fields = (number, entry.mode, 0, 0, 1, 0, len(entry.content), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(head + name) + _padded(entry.content)


def _padded(part: bytes) -> bytes:
    return part + b"\0" * (-len(part) % 4)
