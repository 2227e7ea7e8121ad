# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Loop devices of the kernel (loop(4)): what is attached, attaching a file in one step, and letting it go."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import time
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._tools import block_device, locks

_SET_CAPACITY, _CLR_FD, _GET_STATUS64, _CONFIGURE = 0x4C07, 0x4C01, 0x4C05, 0x4C0A
_CTL_ADD, _CTL_GET_FREE = 0x4C80, 0x4C82
_INFO64 = struct.Struct("=QQQQQIIII64s64s32s16s")
_CONFIG = struct.Struct("=II%ds64x" % _INFO64.size)
_READ_ONLY, _AUTOCLEAR, _PARTSCAN, _DIRECT_IO = 1, 4, 8, 16
#: bytes of C(lo_file_name), without the zero at its end
LONGEST_MARK = 63
_POLL_SECONDS = 0.01


class Loop(t.NamedTuple):
    """An attached loop device, as the kernel tells it. C(device), C(inode), C(rdevice): of what is attached, as in
    stat(2); C(rdevice) is 0 for a file. C(limit): bytes, 0 for all. C(mark): what the one who attached it has called it
    (C(lo_file_name)). C(going): it goes when nobody has it open any more.
    """

    path: str
    device: int
    inode: int
    rdevice: int
    offset: int
    limit: int
    mark: str
    going: bool


class Wanted(t.NamedTuple):
    """How a file is to be attached; as in C(Loop). C(sector) in bytes."""

    offset: int
    limit: int
    sector: int
    read_only: bool
    direct_io: bool
    partitions: bool
    mark: str


def served_directory() -> str:
    """The disks that servers of ours show as files, for C(host_device), are in here."""
    return os.path.join(locks.lock_directory(), "devices")


def is_served(name: str) -> bool:
    """Whether the device is one on such a file. Nobody else needs to look at it: the kernel would ask the server for
    facts of the file, which may have been stopped.
    """
    return backing(name).startswith(served_directory() + "/")


def attached() -> t.List[Loop]:
    """Every attached loop device that can be asked, without those that are served. In a container there may be others,
    of the host.
    """
    found = []
    for name in on_files():
        if not is_served(name):
            with contextlib.suppress(OSError):
                found.append(status("/dev/" + name))
    return [loop for loop in found if loop]


def on_files() -> t.List[str]:
    """The kernel's names of all attached loop devices."""
    return [name for name in sorted(os.listdir("/sys/block")) if os.path.exists("/sys/block/%s/loop" % name)]


def backing(name: str) -> str:
    """The file that is attached, by the kernel's name of it."""
    return block_device.text(name, "loop/backing_file")


def status(path: str) -> t.Optional[Loop]:
    """What is attached to a loop device; None for nothing. Raises OSError where it cannot be asked."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        answer = _INFO64.unpack(fcntl.ioctl(descriptor, _GET_STATUS64, bytes(_INFO64.size)))
    except OSError as exc:
        if exc.errno == errno.ENXIO:
            return None
        raise
    finally:
        os.close(descriptor)
    mark = os.fsdecode(answer[9].split(b"\0", 1)[0])
    device, inode, rdevice, offset, limit = answer[:5]
    return Loop(path, device, inode, rdevice, offset, limit, mark, going=bool(answer[8] & _AUTOCLEAR))


def attach_free(file: int, wanted: Wanted, deadline: float) -> str:
    """Attach the open file to a free device; its path. Another process may take it first: then the next one.

    What is locked by the file's open description stays locked while it is attached. Raises OSError, by the
    C(deadline) of C(time.monotonic()) the last C(EBUSY).
    """
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        while True:
            path = "/dev/loop%d" % fcntl.ioctl(control, _CTL_GET_FREE)
            try:
                attach(path, file, wanted)
                return path
            except OSError as exc:
                taken = exc.errno in (errno.EBUSY, errno.ENXIO, errno.ENOENT)
                if not taken or time.monotonic() >= deadline:
                    raise
            time.sleep(_POLL_SECONDS)
    finally:
        os.close(control)


def attach(path: str, file: int, wanted: Wanted) -> None:
    """Attach the open file to this device, in one step (C(LOOP_CONFIGURE), Linux 5.8). OSError C(EBUSY): it is taken."""
    flags = (_READ_ONLY * wanted.read_only) | (_DIRECT_IO * wanted.direct_io) | (_PARTSCAN * wanted.partitions)
    mark = os.fsencode(wanted.mark)
    info = _INFO64.pack(0, 0, 0, wanted.offset, wanted.limit, 0, 0, 0, flags, mark, b"", b"", b"")
    device = os.open(path, (os.O_RDONLY if wanted.read_only else os.O_RDWR) | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(device, _CONFIGURE, _CONFIG.pack(file, wanted.sector, info))
    finally:
        os.close(device)


def add(path: str) -> None:
    """Have the device of that name be there. It may be already."""
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        with contextlib.suppress(FileExistsError):
            fcntl.ioctl(control, _CTL_ADD, int(path[len("/dev/loop") :]))
    finally:
        os.close(control)


def take_length(path: str) -> None:
    """Have the device be as long as its file is now."""
    device = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(device, _SET_CAPACITY, 0)
    finally:
        os.close(device)


@contextlib.contextmanager
def claimed(path: str) -> t.Iterator[int]:
    """The device, open, with nobody allowed to mount it or build on it meanwhile.

    OSError C(EBUSY): it, or a partition of it, is mounted, or held by the kernel otherwise.
    """
    device = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_EXCL)
    try:
        yield device
    finally:
        os.close(device)


def clear(device: int) -> None:
    """Let the file of the open device go. Programs that have it open keep it until they close it.

    What was written to it before a C(fsync) is in the file when it has gone.
    """
    try:
        fcntl.ioctl(device, _CLR_FD, 0)
    except OSError as exc:
        if exc.errno != errno.ENXIO:  # gone meanwhile
            raise
