# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""QEMU's image lock for a server that takes none. A program of its own, which becomes the server and leaves it the lock:
C(python3 hold_image.py read|write IMAGE PROGRAM [ARGUMENT ...]).

It needs nothing but this file and Python's standard library, as it outlives the play and the files that the play was
made of. The bytes of the lock are told in C(image_lock.py), which uses what is here.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import typing as t

USES, UNSHARES = 100, 200
READ, WRITE, WRITE_UNCHANGED, RESIZE = 0, 1, 2, 3
_PERMISSIONS = 5
# The names came with Python 3.9; the numbers are Linux's, on every architecture.
_OFD_GETLK, _OFD_SETLK = 36, 37
_FLOCK = "hhqqi"
#: as a QEMU that reads an image has them, and one that writes to it
READER = frozenset((USES + READ, UNSHARES + WRITE, UNSHARES + RESIZE))
WRITER = READER | {USES + WRITE}


def _query(fd: int, start: int, length: int) -> int | None:
    """The first byte of the range that somebody else has locked."""
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    kind, _whence, first, _length, _pid = struct.unpack(_FLOCK, fcntl.fcntl(fd, _OFD_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else max(int(first), start)


def locked_bytes(fd: int) -> frozenset[int]:
    """The bytes of QEMU's that others have locked: empty when idle, {100, 201, 203} for a reader, +101 for a writer."""
    found = set()
    for base in (USES, UNSHARES):
        if _query(fd, base, _PERMISSIONS) is not None:
            found |= {at for at in range(base, base + _PERMISSIONS) if _query(fd, at, 1) is not None}
    return frozenset(found)


def put(fd: int, wanted: t.Iterable[int], kind: int) -> None:
    """Put locks on these bytes, or take them off. Raises BlockingIOError where somebody has one of another kind."""
    for at in wanted:
        fcntl.fcntl(fd, _OFD_SETLK, struct.pack(_FLOCK, kind, os.SEEK_SET, at, 1, 0))


def opposite(wanted: t.Iterable[int]) -> frozenset[int]:
    """The bytes that nobody else may have with C(wanted): who uses what we do not share, and the other way round."""
    return frozenset(at - UNSHARES + USES if at >= UNSHARES else at - USES + UNSHARES for at in wanted)


def main() -> None:
    """Entry point."""
    how, path, program = sys.argv[1], sys.argv[2], sys.argv[3:]
    wanted = WRITER if how == "write" else READER
    try:
        # inherited by the server, whose lock it is then
        fd = os.open(path, os.O_RDWR if how == "write" else os.O_RDONLY)
        os.set_inheritable(fd, True)
        put(fd, wanted, fcntl.F_RDLCK)
    except OSError as exc:
        raise SystemExit("%s cannot be locked: %s" % (path, exc.strerror)) from exc
    # first lock, then look, so that of two that start together at least one sees the other
    if locked_bytes(fd) & opposite(wanted):
        raise SystemExit("%s is in use by a running QEMU" % path)
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
