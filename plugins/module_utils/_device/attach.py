# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Attaches a disk: gets a device of the kernel for it, and waits until all of it is there."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import time

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, nbd_uri
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._device import (
    actions,
    definition,
    detach,
    kernel_nbd,
    places,
    server,
    state,
)
from ansible_collections.platter.qemu.plugins.module_utils._device.waiting import wait
from ansible_collections.platter.qemu.plugins.module_utils._tools import (
    block_device,
    image_lock,
    loop_device,
    process,
    tcp_sockets,
)

_TABLES = ("gpt", "dos")


def attach(run: process.RunCommand, item: Item, action: actions.AttachDevice) -> None:
    """All of it, or nothing."""
    wanted = action.wanted
    if not wanted.read_only and item.spec.address:
        _await_earlier_writes(item, item.spec.address)
    try:
        path = _get_device(run, item, wanted)
        _settle(run, item, wanted, path)
    except errors.EngineError:
        with contextlib.suppress(OSError, errors.EngineError):
            detach.detach(run, item)
        raise


def _await_earlier_writes(item: Item, address: nbd_uri.Address) -> None:
    """What a device of before, or anybody of this host, has sent to the server: its write would be done after newer ones."""
    if address.host:
        ends = tcp_sockets.ends_of(address.host, address.port)
        trouble = "what this host has sent to %s before is still on its way" % address.server
        wait(item, lambda: not tcp_sockets.is_still_sent(ends), trouble)


def _get_device(run: process.RunCommand, item: Item, wanted: state.Attached) -> str:
    if wanted.kind == "loop":
        return _on_image(item, wanted)
    if wanted.kind == "fuse":
        return _on_server(run, item, wanted)
    return kernel_nbd.connect(run, item, wanted)


def _settle(run: process.RunCommand, item: Item, wanted: state.Attached, path: str) -> None:
    """Until it can be used."""
    name = block_device.name_of(path)
    wait(item, lambda: block_device.is_ready(name, wanted.length), "%s is not there as it should be" % path)
    if wanted.kind == "loop" and wanted.direct_io and block_device.text(name, "loop/dio") != "1":
        fact = "the file system of %s has no direct I/O for it; set direct_io: false" % wanted.source
        raise errors.FailedError(fact, reason="direct_io_unsupported", evidence={"source": wanted.source})
    tables = [each for each in item.reading.contents or () if each.type in _TABLES]
    if tables and not block_device.parts(name) and shutil.which("partx"):
        # a kernel that was built for one purpose may know no partition tables
        process.run(run, ["partx", "--add", "--", path], ok=(0, 1), timeout=item.spec.timeout)
        wait(item, lambda: block_device.is_ready(name, wanted.length), "the partitions of %s are not there" % path)


def _on_image(item: Item, wanted: state.Attached) -> str:
    """The path of the device. The lock of the image goes with the open file into the kernel, and ends with the device."""
    file = _open_source(item, wanted.read_only)
    try:
        image_lock.hold_as_user(file, wanted.source, writes=not wanted.read_only)
        return _to_loop(item, wanted, file, direct_io=wanted.direct_io)
    finally:
        os.close(file)


def _on_server(run: process.RunCommand, item: Item, wanted: state.Attached) -> str:
    """The server has the lock of the image."""
    server.start(run, item, wanted.argv)
    file = os.open(
        definition.disk_file(places.directory_of(item.name)),
        (os.O_RDONLY if wanted.read_only else os.O_RDWR) | os.O_CLOEXEC,
    )
    try:
        return _to_loop(item, wanted, file, direct_io=False)
    finally:
        os.close(file)


def _to_loop(item: Item, wanted: state.Attached, file: int, *, direct_io: bool) -> str:
    asked = loop_device.Wanted(
        wanted.offset,
        wanted.limit,
        wanted.sector_size or 0,
        wanted.read_only,
        direct_io,
        partitions=True,
        mark=item.spec.mark,
    )
    try:
        if not wanted.device:
            return loop_device.attach_free(file, asked, time.monotonic() + item.spec.timeout)
        loop_device.add(wanted.device)
        loop_device.attach(wanted.device, file, asked)
        return wanted.device
    except OSError as exc:
        raise _not_attached(wanted, exc) from exc


def _not_attached(wanted: state.Attached, exc: OSError) -> errors.EngineError:
    if exc.errno == errno.EBUSY and wanted.device:
        return errors.FailedError("somebody has taken %s meanwhile" % wanted.device, reason="device_taken", evidence={})
    if exc.errno in (errno.ENOENT, errno.EPERM, errno.EACCES) and exc.filename == "/dev/loop-control":
        return errors.FailedError(
            "this host has no loop devices for us (%s: %s)" % (exc.filename, exc.strerror),
            reason="devices_unsupported",
            evidence={},
        )
    return errors.EngineError("the kernel does not attach %s: %s" % (wanted.source, exc.strerror or exc))


def _open_source(item: Item, read_only: bool) -> int:
    """The file that was looked at, and not written to since."""
    flags = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC | os.O_NOFOLLOW
    file = os.open(item.reading.target, flags)
    seen = os.fstat(file)
    length = seen.st_size if stat.S_ISREG(seen.st_mode) else item.reading.stamp[2]
    if (seen.st_dev, seen.st_ino, length, seen.st_mtime_ns) == item.reading.stamp:
        return file
    os.close(file)
    raise errors.FailedError(
        "%s was written to, or replaced, since it was looked at; run the task again" % item.reading.target,
        reason="changed_meanwhile",
        evidence={},
    )


def take_length(item: Item, action: actions.TakeLength) -> None:
    """As long as its file is now."""
    path = item.reading.paths[0]
    loop_device.take_length(path)
    name = block_device.name_of(path)
    wait(item, lambda: block_device.length(name) == action.length, "%s has not taken its new length" % path)
