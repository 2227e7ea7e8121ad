# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The server of a device: started, and ended for certain. It outlives the play, and nothing watches over it: a device whose
server has ended could not be served again by another.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._device import definition, observe, places
from ansible_collections.platter.qemu.plugins.module_utils._inspect import mounts
from ansible_collections.platter.qemu.plugins.module_utils._tools import process, processes

#: the kernel ends others first when memory is short: a killed server loses what it has not written out
_OOM_SCORE = "-900"
_MNT_DETACH = 2


def start(run: process.RunCommand, item: Item, argv: t.Sequence[str]) -> None:
    """Returns when the disk is there; the server has left us by then."""
    try:
        places.make_directory(item.name, item.spec.psk_file)
        process.run(run, list(argv), timeout=item.spec.timeout)
    except errors.ToolError as exc:
        end(item)
        said = (exc.stderr.strip() or exc.message).splitlines()[-1:]
        fact = "the server did not start: %s" % "".join(said)
        raise errors.FailedError(fact, reason="server_failed", evidence={"cmd": list(argv)}) from exc
    for pid in _pids(item.name):
        with contextlib.suppress(OSError), open("/proc/%d/oom_score_adj" % pid, "w", encoding="ascii") as stream:
            stream.write(_OOM_SCORE)


def end(item: Item) -> None:
    """It is asked to, and writes out what it holds. One that is written to is not killed."""
    harmless = all(_reads(argv) for pid, argv in observe.servers().items() if pid in _pids(item.name))
    if not processes.end_all(lambda: _pids(item.name), item.spec.timeout, kill_after=harmless):
        raise errors.FailedError(
            "the server has not ended within %g s; killed, it could lose what it has not written out yet"
            % item.spec.timeout,
            reason="stop_timeout",
            evidence={"pids": _pids(item.name)},
        )
    file = definition.disk_file(places.directory_of(item.name))
    if any(mount.mount_point == file for mount in mounts.read_mounts()):  # of one that was killed
        ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(file), _MNT_DETACH)
    places.remove_directory(item.name)


def _pids(name: str) -> t.List[int]:
    return observe.servers_of(name, observe.servers())


def _reads(argv: t.Sequence[str]) -> bool:
    shown = definition.parse(argv)
    return bool(shown and shown.read_only)
