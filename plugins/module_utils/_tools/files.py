# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Files as the engine needs them: what is known of one, bounded reads, publishing in one durable step."""

from __future__ import annotations

import contextlib
import os
import stat
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors

#: all that a header reader may read of one image, in bytes
READ_BUDGET = 2 << 20
#: read at once, as most headers fit in it
_HEAD = 4096


#: (device, inode, length, time of the last write): changes when a file is written to, or another takes its place
Stamp = t.Tuple[int, int, int, int]


class FileFacts(t.NamedTuple):
    """What lstat/stat say of a path. C(kind): absent, file, block, or the name of another file type."""

    path: str
    kind: str
    dev: int = 0
    ino: int = 0
    length: int = 0
    allocated: int = 0
    mtime_ns: int = 0
    nlink: int = 1
    mode: int = 0
    owner: int = 0
    ctime_ns: int = 0

    @property
    def identity(self) -> t.Tuple[int, int]:
        """(device, inode): the file itself, whatever its name."""
        return (self.dev, self.ino)

    @property
    def most_allocated(self) -> int:
        """Bytes that a copy with the same holes takes at most. Of a block device nothing tells its holes."""
        return self.length if self.kind == "block" else self.allocated

    @property
    def written(self) -> t.Dict[str, int]:
        """What tells for months whether a file was written to. The time of a block device is that of its node in C(/dev)."""
        return {"size": self.length, **({} if self.kind == "block" else {"mtime_ns": self.mtime_ns})}

    @property
    def stamp(self) -> Stamp:
        """What tells whether it was written to."""
        return (self.dev, self.ino, self.length, self.mtime_ns)


_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFBLK: "block",
    stat.S_IFDIR: "directory",
    stat.S_IFIFO: "FIFO",
    stat.S_IFLNK: "symbolic link",
}


def file_facts(path: str, *, follow: bool = True) -> FileFacts:
    """Facts of what C(path) leads to, through symbolic links if C(follow). Absence is a fact, not an error."""
    try:
        seen = os.stat(path, follow_symlinks=follow)
    except FileNotFoundError:
        return FileFacts(path, "absent")
    except OSError as exc:
        raise errors.EngineError("%s cannot be examined: %s" % (path, exc.strerror), path=path) from exc
    kind = _KINDS.get(stat.S_IFMT(seen.st_mode), "special file")
    length = seen.st_size if kind != "block" else _device_length(path)
    return FileFacts(
        path,
        kind,
        seen.st_dev,
        seen.st_ino,
        length,
        seen.st_blocks * 512,
        seen.st_mtime_ns,
        seen.st_nlink,
        seen.st_mode,
        seen.st_uid,
        seen.st_ctime_ns,
    )


def _device_length(path: str) -> int:
    descriptor = open_quietly(path)
    try:
        return os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)


def local_node(facts: FileFacts) -> t.Dict[str, t.Any]:
    """QEMU's protocol node of a local file or block device."""
    return {"driver": "host_device" if facts.kind == "block" else "file", "filename": facts.path}


class FileReader:
    """A ByteSource over a regular file or block device: read-only, leaves no access time, within a budget."""

    def __init__(self, path: str, budget: int = READ_BUDGET, *, follow: bool = True) -> None:
        self._descriptor = open_quietly(path, 0 if follow else os.O_NOFOLLOW)
        self._budget = budget
        self.path = path
        try:
            self.length = self.length_now()
            self._head = os.pread(self._descriptor, _HEAD, 0)
        except OSError as exc:  # as of some files in /proc
            os.close(self._descriptor)
            raise errors.EngineError("%s cannot be read: %s" % (path, exc.strerror), path=path) from exc

    def __enter__(self) -> FileReader:
        return self

    def __exit__(self, *_unused: t.Any) -> None:
        os.close(self._descriptor)

    @property
    def identity(self) -> t.Tuple[int, int]:
        """(device, inode) of the open file."""
        seen = os.fstat(self._descriptor)
        return (seen.st_dev, seen.st_ino)

    def length_now(self) -> int:
        """The length in bytes, which may be another than C(length) where somebody writes."""
        return os.lseek(self._descriptor, 0, os.SEEK_END)

    def read(self, offset: int, size: int) -> bytes:
        """C(size) bytes at C(offset), fewer at the end. HeaderError when the image sends the reader too far about."""
        if size < 0 or offset < 0 or size > self._budget:
            raise errors.HeaderError(
                "%s: its header points beyond what is read of an image" % self.path, path=self.path
            )
        self._budget -= size
        if offset + size <= len(self._head):
            return self._head[offset : offset + size]
        try:
            return os.pread(self._descriptor, size, offset)
        except OverflowError as exc:
            raise errors.HeaderError("%s: its header points beyond any file" % self.path, path=self.path) from exc
        except OSError as exc:
            raise errors.EngineError("%s cannot be read: %s" % (self.path, exc.strerror), path=self.path) from exc


def open_quietly(path: str, more: int = 0) -> int:
    """For reading, without waiting, and without leaving an access time where that is allowed."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | more
    try:
        return os.open(path, flags | os.O_NOATIME)
    except PermissionError:
        pass  # O_NOATIME is for the owner and root only (open(2))
    except OSError as exc:
        raise errors.EngineError("%s cannot be opened: %s" % (path, exc.strerror), path=path) from exc
    try:
        return os.open(path, flags)
    except OSError as exc:
        raise errors.EngineError("%s cannot be opened: %s" % (path, exc.strerror), path=path) from exc


def fsync_path(path: str) -> None:
    """Wait until the file or directory is on stable storage."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as exc:
        raise errors.EngineError("%s could not be made durable: %s" % (path, exc.strerror), path=path) from exc
    finally:
        os.close(descriptor)


def publish_new(built: str, path: str) -> bool:
    """Give the finished file its name, unless something has taken it meanwhile (then False). Never overwrites."""
    try:
        os.link(built, path)
    except FileExistsError:
        return False
    except OSError:
        return _publish_without_links(built, path)
    with contextlib.suppress(OSError):  # it has its name; the other one goes with the build directory
        os.unlink(built)
    return True


def _publish_without_links(built: str, path: str) -> bool:
    """For file systems without hard links (vfat, some FUSE): the gap between look and rename stays."""
    if os.path.lexists(path):
        return False
    os.rename(built, path)
    return True


def publish_over(built: str, path: str, expected: t.Tuple[int, int]) -> bool:
    """Replace C(path) by the finished file if it is still the file seen before; else False."""
    seen = os.lstat(path)
    if (seen.st_dev, seen.st_ino) != expected:
        return False
    os.rename(built, path)
    return True
