# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Detaches a disk for certain: returns when the kernel has nothing to do with it any more."""

from __future__ import annotations

import errno
import os
import sys
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._device import guard, observe, places, refuse, server
from ansible_collections.platter.qemu.plugins.module_utils._device.waiting import wait
from ansible_collections.platter.qemu.plugins.module_utils._tools import block_device, loop_device, nbd_kernel, process


def detach(run: process.RunCommand, item: Item) -> None:
    """The device, then its server."""
    for path in observe.found(item.spec, loop_device.attached()):
        _let_go(run, item, path)
    server.end(item)


def _let_go(run: process.RunCommand, item: Item, path: str) -> None:
    before = _attached_to(path)
    try:
        with loop_device.claimed(path) as device:
            _write_out(run, item, path, device)
            places.remove(item.name)
            if path.startswith("/dev/nbd"):
                nbd_kernel.disconnect(path)
            else:
                loop_device.clear(device)
    except OSError as exc:
        if exc.errno != errno.EBUSY:
            raise
        raise refuse_busy(item, path) from exc
    try:
        # another process may have attached something else to it by then
        wait(item, lambda: _attached_to(path) != before, "%s is not free" % path)
    except errors.FailedError as exc:
        using = guard.users_of([path], item.reading.backing, 0.0)
        exc.message += ": it goes when %s has closed it" % (", ".join(map(str, using[:5])) or "who has it open")
        exc.facts.update(reason="device_busy", evidence={"in_use_by": [each.to_facts() for each in using]})
        raise


#: in a process of its own: who waits for a server that says nothing cannot even be ended
_WRITE_OUT = "import os, sys; os.fsync(os.open(sys.argv[1], os.O_RDONLY))"


def _write_out(run: process.RunCommand, item: Item, path: str, device: int) -> None:
    """What programs have written. With the server gone there is nowhere to write it to, and the device goes all the same."""
    attached = item.before.attached
    if attached is None or attached.read_only or not attached.alive:
        return
    if attached.kind == "loop":
        os.fsync(device)
        return
    try:
        process.run(run, [sys.executable, "-I", "-S", "-c", _WRITE_OUT, path], timeout=item.spec.timeout)
    except errors.ToolTimeoutError as exc:
        raise refuse.silent(item.spec, item.reading) from exc


def _attached_to(path: str) -> t.Tuple[str, str]:
    """What is attached, by the kernel's name of it and the number of that attachment (C(diskseq), Linux 5.15)."""
    name = block_device.name_of(path)
    backing = loop_device.backing(name) or block_device.text(name, "backend")
    return backing, block_device.text(name, "diskseq") if backing else ""


def refuse_busy(item: Item, path: str) -> errors.EngineError:
    """Somebody has the device now, who had not before."""
    using = guard.users_of([path], item.reading.backing, 0.0)
    return refuse.busy(item.spec, item.reading, using)
