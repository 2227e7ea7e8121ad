# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""QEMU's image lock from Python: who has what, and holding it so that QEMU keeps away.

QEMU puts shared OFD locks on single bytes of the image file (C(block/file-posix.c), since QEMU 2.10):
byte 100+i: I use permission i; byte 200+i: I do not share permission i with others.
Permissions: 0 consistent read, 1 write, 2 write unchanged, 3 resize, 4 graph changes (until QEMU 7.2).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._tools import hold_image

USES, UNSHARES = hold_image.USES, hold_image.UNSHARES
READ, WRITE, WRITE_UNCHANGED, RESIZE = 0, 1, 2, 3
locked_bytes = hold_image.locked_bytes

#: Measured on QEMU 7.2, qcow2 and raw: with these held, opening for writing and resize fail; info, convert and
#: read-only exports work. With 200 as well, only info works (it opens without I/O).
_AGAINST_WRITERS = (UNSHARES + WRITE, UNSHARES + RESIZE)
_AGAINST_ALL = (UNSHARES + READ, UNSHARES + WRITE, UNSHARES + RESIZE)


def hold_image_lock(fd: int, path: str, *, readers: bool = True) -> None:
    """Keep QEMU from opening the image behind C(fd) for writing, or, without C(readers), from opening it at all.

    C(fd) must be open for reading. The lock ends when every copy of C(fd) is closed; opening the file anew and
    closing that does not end it. Others of us may hold it too: it does not exclude our own kind.
    Refuses when a QEMU is there already.
    """
    wanted = _AGAINST_WRITERS if readers else _AGAINST_ALL
    _set(fd, path, wanted, fcntl.F_RDLCK)
    # As QEMU does it: first lock, then look, so that of two that start together at least one sees the other.
    conflicts = locked_bytes(fd) & hold_image.opposite(wanted)
    if conflicts:
        _set(fd, path, wanted, fcntl.F_UNLCK)
        raise _in_use(path, conflicts)


def hold_as_user(fd: int, path: str, *, writes: bool) -> None:
    """Lock the image behind C(fd) as a QEMU does that reads it or writes to it, and refuse as that QEMU would.

    As with C(hold_image_lock), whatever keeps C(fd) keeps the lock: also the kernel, for a loop device.
    """
    uses = (READ, WRITE, RESIZE) if writes else (READ,)
    wanted = (*(USES + each for each in uses), UNSHARES + WRITE, UNSHARES + RESIZE)
    _set(fd, path, wanted, fcntl.F_RDLCK)
    against = {USES + WRITE, USES + RESIZE, *(UNSHARES + each for each in uses)}
    # our own are not among what others have locked
    conflicts = locked_bytes(fd) & against
    if conflicts:
        _set(fd, path, wanted, fcntl.F_UNLCK)
        raise _in_use(path, conflicts)


def _set(fd: int, path: str, wanted: t.Iterable[int], kind: int) -> None:
    try:
        hold_image.put(fd, wanted, kind)
    except BlockingIOError as exc:  # a write lock there: not QEMU's way, but a lock
        raise _in_use(path, wanted) from exc
    except OSError as exc:
        raise errors.RefusedError(
            "a change",
            path,
            f"its file system has no usable locks ({exc.strerror})",
            reason="lock_untrusted",
            way_out="Keep the image on a local file system.",
            joined="of",
        ) from exc


def _in_use(path: str, conflicts: t.Iterable[int]) -> errors.RefusedError:
    return errors.RefusedError(
        "a change",
        path,
        "a running QEMU has it open",
        reason="image_in_use",
        way_out="Stop what uses the image, then run the task again.",
        evidence={"locked_bytes": sorted(conflicts)},
        joined="of",
    )


@contextlib.contextmanager
def image_lock(path: str, *, readers: bool = True) -> t.Iterator[int]:
    """C(hold_image_lock) on C(path) while the block runs; gives the file descriptor that carries the lock."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        hold_image_lock(fd, path, readers=readers)
        yield fd
    finally:
        os.close(fd)
