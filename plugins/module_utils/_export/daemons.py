# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The storage daemons of this host as they are: their processes, and the exports that they say they have. Read-only."""

from __future__ import annotations

import contextlib
import os
import time
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._export import declared, places, server_storage_daemon
from ansible_collections.platter.qemu.plugins.module_utils._export.state import Definition
from ansible_collections.platter.qemu.plugins.module_utils._tools import processes, qmp

#: seconds that a daemon gets to say what it has
SECONDS = 5.0
#: seconds from when a daemon's socket has come until it is spoken to. Its first thread listens until the monitor has one of
#: its own; with a client just then both take it, and the daemon aborts (C(tcp_chr_change_state)) or closes the session:
#: QEMU 7.2, 17 of 8150 starts, and none of 11189 with this
SETTLED = 0.05
_POLL_SECONDS = 0.02


class Daemon(t.NamedTuple):
    """C(definition): its own. C(argv): its command line; empty where it does not run. C(exports): the node behind each
    export, by name. C(left): the names of nodes that nobody is served. C(silent): it did not say.
    """

    name: str
    definition: t.Optional[Definition] = None
    pids: t.Tuple[int, ...] = ()
    supervisors: t.Tuple[int, ...] = ()
    argv: t.Tuple[str, ...] = ()
    exports: t.Mapping[str, str] = {}
    left: t.Tuple[str, ...] = ()
    silent: bool = False


def definition_of(name: str) -> t.Optional[Definition]:
    """What is declared of the daemon itself."""
    host = places.host_name(name)
    return declared.in_unit(host) or declared.in_file(host)


def ask(found: Daemon) -> Daemon:
    """The same with what it says of its exports, if it runs."""
    if not found.pids:
        return found
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with session(found.name, SECONDS) as monitor:
                exports, left = exports_now(monitor), nodes_now(monitor)
            return found._replace(exports=exports, left=tuple(left - set(exports.values())))
        except errors.QmpConnectError as exc:
            # it may be about to listen, or to end
            late = time.monotonic() >= deadline or not any(map(processes.runs, found.pids))
            if late or exc.reason == "qmp_timeout":
                return found._replace(silent=exc.reason == "qmp_timeout")
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def session(name: str, seconds: float) -> t.Iterator[qmp.Qmp]:
    """With its monitor. C(seconds): as for C(Qmp.connect). Raises QmpConnectError."""
    path = places.monitor(name)
    while _is_new(path):
        time.sleep(SETTLED / 5)
    with qmp.Qmp.connect(path, seconds) as monitor:
        yield monitor


def _is_new(path: str) -> bool:
    """Whether the daemon listens since a moment only."""
    with contextlib.suppress(FileNotFoundError):
        return 0 <= time.time() - os.lstat(path).st_ctime < SETTLED
    return False


def takes_commands(name: str) -> bool:
    """Whether it does, just now."""
    try:
        with session(name, SECONDS):
            return True
    except errors.QmpConnectError:
        return False


def exports_now(monitor: qmp.Qmp) -> t.Dict[str, str]:
    """The node behind each of its exports, by name."""
    told = monitor.execute("query-block-exports", timeout=SECONDS)
    return {server_storage_daemon.export_name(each["id"]): each["node-name"] for each in told}


def nodes_now(monitor: qmp.Qmp) -> t.Set[str]:
    """Its nodes that have names; those below them have numbers."""
    told = monitor.execute("query-named-block-nodes", {"flat": True}, SECONDS)
    return {each["node-name"] for each in told if not each["node-name"].startswith("#")}
