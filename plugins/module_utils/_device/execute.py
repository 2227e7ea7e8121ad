# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Carries out plans, several devices at a time, and looks again at what came of it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
import typing as t
from functools import partial

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, failed_at
from ansible_collections.platter.qemu.plugins.module_utils._device import actions, guard, observe, places
from ansible_collections.platter.qemu.plugins.module_utils._tools import (
    block_device,
    image_lock,
    loop_device,
    process,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools.side_by_side import side_by_side

_MOST_WORKERS = 8
_POLL_SECONDS = 0.01
_TABLES = ("gpt", "dos")
#: all that goes goes before anything comes, as devices may trade places
_PASSES = (
    (actions.DetachDevice, actions.RemoveLink),
    (actions.AttachDevice, actions.TakeLength, actions.LinkDevice),
)


class Executor:
    """Runs the actions of items. C(workers) 0: as many as help."""

    def __init__(self, run: process.RunCommand, *, workers: int) -> None:
        self._run = run
        self._workers = workers or min(_MOST_WORKERS, 2 * (os.cpu_count() or 1))
        self._methods: t.Dict[t.Any, t.Callable[[Item, t.Any], None]] = {
            actions.DetachDevice: _detach,
            actions.RemoveLink: _remove_link,
            actions.AttachDevice: self._attach,
            actions.TakeLength: _take_length,
            actions.LinkDevice: _link,
        }

    def run(self, items: t.Sequence[Item]) -> None:
        """Carry out the plans of items."""
        for kinds in _PASSES:
            self._each([item for item in items if not item.error], kinds)
        now = observe.ground()
        for item in items:
            if not item.error:
                self._attempt(item, partial(look_again, item, now))

    def _each(self, items: t.Sequence[Item], kinds: t.Tuple[type, ...]) -> None:
        side_by_side(lambda item: self._attempt(item, partial(self._carry_out, item, kinds)), items, self._workers)

    def _carry_out(self, item: Item, kinds: t.Tuple[type, ...]) -> None:
        while item.done < len(item.plan) and isinstance(item.plan[item.done], kinds):
            action = item.plan[item.done]
            self._methods[type(action)](item, action)
            item.done += 1

    def _attach(self, item: Item, action: actions.AttachDevice) -> None:
        path = _attach_loop(item, action)
        wanted, name = action.wanted, block_device.name_of(path)
        try:
            _wait(item, lambda: block_device.is_ready(name, wanted.length), "%s is not there as it should be" % path)
            if wanted.direct_io and block_device.text(name, "loop/dio") != "1":
                fact = "the file system of %s has no direct I/O for it; set direct_io: false" % wanted.source
                raise errors.FailedError(fact, reason="direct_io_unsupported", evidence={"source": wanted.source})
            self._find_partitions(item, path)
        except errors.EngineError:
            with contextlib.suppress(OSError):
                _let_go(item, path)
            raise

    def _find_partitions(self, item: Item, path: str) -> None:
        """A kernel that was built for one purpose may know no partition tables."""
        tables = [each for each in item.reading.contents or () if each.type in _TABLES]
        name = block_device.name_of(path)
        if tables and not block_device.parts(name):
            process.run(self._run, ["partx", "--add", "--", path], ok=(0, 1), timeout=item.spec.timeout)
            size = block_device.length(name)
            _wait(item, lambda: block_device.is_ready(name, size), "the partitions of %s are not there" % path)

    @staticmethod
    def _attempt(item: Item, function: t.Callable[[], None]) -> None:
        """Errors of one item are its own."""
        try:
            function()
        except errors.EngineError as exc:
            item.error = _failed(item, exc)
        except OSError as exc:
            item.error = _failed(item, errors.EngineError("%s: %s" % (exc.filename or item.name, exc.strerror)))


# --- attaching


def _attach_loop(item: Item, action: actions.AttachDevice) -> str:
    """The path of the device. The lock of the image goes with the open file into the kernel, and ends with the device."""
    spec, wanted = item.spec, action.wanted
    file = _open_source(item, wanted.read_only)
    try:
        image_lock.hold_as_user(file, wanted.source, writes=not wanted.read_only)
        asked = loop_device.Wanted(
            wanted.offset, wanted.limit, wanted.sector_size or 0, wanted.read_only, wanted.direct_io, True, spec.mark
        )
        if not wanted.device:
            return loop_device.attach_free(file, asked, time.monotonic() + spec.timeout)
        loop_device.add(wanted.device)
        loop_device.attach(wanted.device, file, asked)
        return wanted.device
    except OSError as exc:
        raise _not_attached(item, wanted, exc) from exc
    finally:
        os.close(file)


def _not_attached(item: Item, wanted: t.Any, exc: OSError) -> errors.EngineError:
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


def _take_length(item: Item, action: actions.TakeLength) -> None:
    path = item.reading.paths[0]
    loop_device.take_length(path)
    name = block_device.name_of(path)
    _wait(item, lambda: block_device.length(name) == action.length, "%s has not taken its new length" % path)


def _link(item: Item, _action: actions.LinkDevice) -> None:
    found = observe.marked(item.spec.mark, observe.ground())
    if found:
        places.lead(item.name, found[0].path)


# --- detaching


def _detach(item: Item, _action: actions.DetachDevice) -> None:
    for loop in observe.marked(item.spec.mark, observe.ground()):
        _let_go(item, loop.path)


def _let_go(item: Item, path: str) -> None:
    """Returns when the device has nothing to do with the disk any more."""
    before = loop_device.status(path)
    try:
        with loop_device.claimed(path) as device:
            places.remove(item.name)
            loop_device.clear(device)
    except OSError as exc:
        if exc.errno != errno.EBUSY:
            raise
        raise guard.busy_now(item, [path]) from exc
    try:
        _wait(item, lambda: _has_gone(path, before), "%s is not free" % path)
    except errors.FailedError as exc:
        using = guard.users_of([path], item.reading.backing, 0.0)
        exc.message += ": it goes when %s" % (", ".join(map(str, using[:5])) or "the kernel has done with it")
        exc.facts.update(reason="device_busy", evidence={"in_use_by": [each.to_facts() for each in using]})
        raise


def _has_gone(path: str, before: t.Optional[loop_device.Loop]) -> bool:
    """Or another process has attached something else to it."""
    now = loop_device.status(path)
    return (
        now is None or before is None or (now.device, now.inode, now.mark) != (before.device, before.inode, before.mark)
    )


def _remove_link(item: Item, _action: actions.RemoveLink) -> None:
    places.remove(item.name)


# --- all of it


def _wait(item: Item, fact: t.Callable[[], bool], trouble: str) -> None:
    deadline = time.monotonic() + item.spec.timeout
    while not fact():
        if time.monotonic() >= deadline:
            text = "%s after %g s" % (trouble, item.spec.timeout)
            raise errors.FailedError(text, reason="device_timeout", evidence={"timeout": item.spec.timeout})
        time.sleep(_POLL_SECONDS)


def look_again(item: Item, now: observe.Ground) -> None:
    """What is there now must be what was predicted."""
    found, item.reading = observe.observe(item.spec, now)
    if found != item.after:
        link = places.link_of(item.name)
        raise errors.FailedError(
            "failed: device %s is not as planned after the change: %s instead of %s."
            % (item.name, found.to_facts(link), item.after.to_facts(link)),
            reason="not_as_planned",
        )


def _failed(item: Item, exc: errors.EngineError) -> errors.EngineError:
    """The error of an item, with what was done and what is there now."""
    if isinstance(exc, errors.RefusedError) and not item.done:
        return exc
    found = observe.marked(item.spec.mark, observe.ground())
    now = "%s is there." % found[0].path if found else "it is not attached."
    exc.message = failed_at(item, exc.message, now)
    return exc
