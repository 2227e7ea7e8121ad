# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Attaches a disk by the kernel's own NBD client: the handshake is ours, then the connection is the kernel's."""

from __future__ import annotations

import errno
import fcntl
import os
import time
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, nbd_uri
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._device import definition, places, plan, server, state
from ansible_collections.platter.qemu.plugins.module_utils._tools import nbd_client, nbd_kernel, process

#: the flag of the transmission by which the kernel lets nobody write
_READ_ONLY = 2
_BLKRRPART = 0x125F
_SECTOR = 512


def connect(run: process.RunCommand, item: Item, wanted: state.Attached) -> str:
    """The path of the device."""
    nbd_kernel.load(run)
    if wanted.argv:
        server.start(run, item, wanted.argv)
        socket = definition.socket_file(places.directory_of(item.name))
        address = nbd_uri.Address(definition.EXPORT, socket=socket)
    else:
        address = t.cast(nbd_uri.Address, item.spec.address)
    path = _connected(item, wanted, address)
    _look_for_partitions(path)
    return path


def _connected(item: Item, wanted: state.Attached, address: nbd_uri.Address) -> str:
    client = nbd_client.NbdClient(address, item.spec.timeout, simple=True)
    try:
        # a write that was given up must not reach the server later, when its place was written to by others
        export, connection = client.hand_over(address.export, wanted.io_timeout)
        if plan.length_of(item.spec, item.reading) != export.size // _SECTOR * _SECTOR:
            fact = "the disk has %d bytes now; run the task again" % export.size
            raise errors.FailedError(fact, reason="changed_meanwhile", evidence={"size": export.size})
        number = os.fstat(connection.fileno()).st_ino
        least = export.block_size.minimum if export.block_size else _SECTOR
        return nbd_kernel.connect(
            connection.fileno(),
            size=export.size,
            block=max(wanted.sector_size or _SECTOR, least),
            flags=export.flags | (_READ_ONLY if wanted.read_only else 0),
            device=wanted.device,
            timeout=wanted.io_timeout,
            mark="%s %s %s" % (item.spec.mark, _told(number, wanted.io_timeout), "" if wanted.argv else wanted.source),
            deadline=time.monotonic() + item.spec.timeout,
        )
    except OSError as exc:
        if exc.errno == errno.EBUSY and wanted.device:
            fact = "somebody has taken %s meanwhile" % wanted.device
            raise errors.FailedError(fact, reason="device_taken", evidence={}) from exc
        raise errors.EngineError("the kernel does not connect to %s: %s" % (address, exc.strerror or exc)) from exc
    finally:
        client.leave()


def _told(number: int, seconds: int) -> str:
    """What the mark says of the connection: nowhere else is the limit of time to be read."""
    return "%d:%d" % (number, seconds) if seconds else str(number)


def _look_for_partitions(path: str) -> None:
    """The kernel does that when it is first opened, but not for certain."""
    device = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(device, _BLKRRPART)
    except OSError as exc:
        if exc.errno not in (errno.EBUSY, errno.EINVAL):  # it is looking already; it has no room for partitions
            raise
    finally:
        os.close(device)
