# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Copying a file as a whole: shared blocks where the file system can, else its data only, holes kept as holes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import struct
import typing as t
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._tools import sparse

_FICLONE = 0x40049409
_BLKZEROOUT = 0x127F
_MOST_AT_ONCE = 1 << 30
#: The kernel or the file systems cannot do it this way: try the next.
_NOT_THIS_WAY = frozenset(
    (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF, errno.ETXTBSY, errno.ENOTTY)
)


@dataclass(frozen=True)
class CopyReport:
    """What was done: C(method) is reflink, copy_file_range, sendfile or read_write."""

    method: str
    bytes: int  # written; 0 for a reflink
    digest: str | None = None


def copy_file(
    source_path: str,
    dest: str | int,
    *,
    reflink: bool = True,
    find_zeros: bool = False,
    digest: str | None = None,
) -> CopyReport:
    """Make C(dest) (a path, or a descriptor open for writing) the same bytes as C(source_path).

    A file is created, or emptied first; of a block device only the beginning is replaced, the size of the source.
    No fsync, no rename, no owner or mode: the caller does that.
    C(find_zeros): leave a hole for every 64 KiB of zeros too (for sources that were written without holes).
    C(digest): also compute that hash (sha256) of the content, holes included.
    """
    with _opened(source_path, os.O_RDONLY | os.O_NONBLOCK) as source, _opened(dest, os.O_WRONLY | os.O_CREAT) as target:
        size = os.lseek(source, 0, os.SEEK_END)
        if os.path.samestat(os.fstat(source), os.fstat(target)):
            raise errors.EngineError(f"{source_path} cannot be copied onto itself")
        if not stat.S_ISREG(os.fstat(target).st_mode):
            return _seen(source, target, size, digest, _ToDevice())
        os.ftruncate(target, 0)
        if reflink and _clone(source, target):
            return CopyReport("reflink", 0, digest and sparse.digest_of(f"/proc/self/fd/{target}", digest))
        os.ftruncate(target, size)
        if digest or find_zeros:
            return _seen(source, target, size, digest, _ToFile(find_zeros))
        return _copy_data(source, target, size)


def _seen(source: int, target: int, size: int, digest: str | None, sink: _Sink) -> CopyReport:
    if digest is None:
        return CopyReport("read_write", _read_write(source, target, size, sink))
    hasher = hashlib.new(digest)
    total = _read_write(source, target, size, _Hashing(sink, hasher))
    return CopyReport("read_write", total, hasher.hexdigest())


@contextlib.contextmanager
def _opened(place: str | int, flags: int) -> t.Iterator[int]:
    if isinstance(place, int):
        yield place
        return
    fd = os.open(place, flags | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def _clone(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as exc:
        if exc.errno in _NOT_THIS_WAY:
            return False
        raise
    return True


def _copy_data(source: int, target: int, size: int) -> CopyReport:
    methods, total = list(_METHODS), 0
    for start, end in sparse.data_ranges(source, size):
        while start < end:
            count = _step(methods, source, target, start, min(end - start, _MOST_AT_ONCE))
            start += count
            total += count
    return CopyReport(methods[0][0], total)


def _step(methods: list[_Method], source: int, target: int, at: int, count: int) -> int:
    """Copy some bytes at C(at) by the first method that works; those that do not are taken off the list."""
    while len(methods) > 1:
        try:
            done = methods[0][1](source, target, at, count)
            if done:
                return done
        except OSError as exc:
            if exc.errno not in _NOT_THIS_WAY:
                raise
        except AttributeError:  # this Python was built against a C library without copy_file_range
            pass
        del methods[0]
    return methods[0][1](source, target, at, count)


def _by_copy_file_range(source: int, target: int, at: int, count: int) -> int:
    return os.copy_file_range(source, target, count, at, at)


def _by_sendfile(source: int, target: int, at: int, count: int) -> int:
    os.lseek(target, at, os.SEEK_SET)
    return os.sendfile(target, source, at, count)


def _by_read_write(source: int, target: int, at: int, count: int) -> int:
    return sparse.write_all(target, _read(source, at, count), at)


def _read(source: int, at: int, count: int) -> bytes:
    data = os.pread(source, min(count, sparse.CHUNK), at)
    if not data:
        raise errors.EngineError(f"the source became shorter while it was copied: it ends at byte {at} now")
    return data


_Method = t.Tuple[str, t.Callable[[int, int, int, int], int]]
_METHODS: tuple[_Method, ...] = (
    ("copy_file_range", _by_copy_file_range),
    ("sendfile", _by_sendfile),
    ("read_write", _by_read_write),
)


def _read_write(source: int, target: int, size: int, sink: _Sink) -> int:
    """Through our own memory, with every byte seen; how many bytes were written."""
    at = total = 0
    for start, end in sparse.data_ranges(source, size):
        sink.hole(target, at, start)
        at = start
        while at < end:
            data = _read(source, at, end - at)
            total += sink.data(target, data, at)
            at += len(data)
    sink.hole(target, at, size)
    return total


class _Sink(t.Protocol):
    def hole(self, target: int, start: int, end: int) -> None: ...

    def data(self, target: int, data: bytes, at: int) -> int: ...


@dataclass(frozen=True)
class _ToFile:
    """Into a file that is all hole already."""

    find_zeros: bool

    def hole(self, target: int, start: int, end: int) -> None:
        """Is there."""

    def data(self, target: int, data: bytes, at: int) -> int:
        return sparse.write_sparse(target, data, at) if self.find_zeros else sparse.write_all(target, data, at)


class _ToDevice:
    """Onto a block device: what is a hole in the source must become zeros."""

    def hole(self, target: int, start: int, end: int) -> None:
        if start == end:
            return
        try:
            fcntl.ioctl(target, _BLKZEROOUT, struct.pack("QQ", start, end - start))
        except OSError:  # no block device after all, or not on its sectors
            for at in range(start, end, sparse.CHUNK):
                sparse.write_all(target, bytes(min(sparse.CHUNK, end - at)), at)

    def data(self, target: int, data: bytes, at: int) -> int:
        return sparse.write_all(target, data, at)


def zero_from(device: str, start: int) -> None:
    """All of a block device from byte C(start) on becomes zeros; most devices do that without being sent any."""
    target = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
    try:
        _ToDevice().hole(target, start, os.lseek(target, 0, os.SEEK_END))
    finally:
        os.close(target)


@dataclass(frozen=True)
class _Hashing:
    """Hashes what goes into another sink."""

    sink: _Sink
    hasher: hashlib._Hash

    def hole(self, target: int, start: int, end: int) -> None:
        sparse.hash_zeros(self.hasher, end - start)
        self.sink.hole(target, start, end)

    def data(self, target: int, data: bytes, at: int) -> int:
        self.hasher.update(data)
        return self.sink.data(target, data, at)
