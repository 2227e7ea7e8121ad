# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""A process that does one thing when we end without a word: SIGKILL, too, leaves a guest frozen otherwise.

It is forked, so it starts in about a millisecond and needs no program; it runs nothing but the one function, and never
returns into the caller's code. A fork of a process with threads takes only this thread along: the function must not
need what another thread may hold (C(GuestAgent) uses sockets and JSON, which have no locks). Forked twice, so that
init inherits it and it is nobody's zombie; in a session of its own, so that the end of ours does not take it along.
Nothing helps where a whole control group or the machine is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import typing as t
import warnings

_ALL_IS_WELL = b"."


@contextlib.contextmanager
def watching(keep_open: int, rescue: t.Callable[[], None]) -> t.Iterator[t.Callable[[], None]]:
    """Gives a function to call when all is well. If it has not been called when this process ends or the block does,
    another process calls C(rescue). Of our descriptors that one keeps only C(keep_open) and the standard ones on
    /dev/null: no lock, and no pipe of Ansible's, lives longer because of it.
    """
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            _fork_twice(theirs.fileno(), keep_open, rescue)
        if ours.recv(1) != _ALL_IS_WELL:
            raise _not_started()

        def all_is_well() -> None:
            with contextlib.suppress(ConnectionError):  # somebody has killed it; it is not needed any more
                ours.send(_ALL_IS_WELL)
                ours.recv(1)  # it has ended: nothing of it is left when we go on

        yield all_is_well


def _fork_twice(theirs: int, keep_open: int, rescue: t.Callable[[], None]) -> None:
    child = _fork()
    if child == 0:
        status = 1
        try:
            if _fork() == 0:
                _watch(theirs, keep_open, rescue)
            status = 0
        finally:
            os._exit(status)
    if os.waitpid(child, 0)[1] != 0:
        raise _not_started()


def _fork() -> int:
    with warnings.catch_warnings():
        # Python 3.12 warns of forks beside threads; why this one may, is said above
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _not_started() -> ChildProcessError:
    return ChildProcessError("the process that acts if we are killed could not be started")


def _watch(theirs: int, keep_open: int, rescue: t.Callable[[], None]) -> None:
    os.setsid()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _drop_descriptors({theirs, keep_open})
    os.write(theirs, _ALL_IS_WELL)
    with contextlib.suppress(ConnectionError):
        if os.read(theirs, 1) == _ALL_IS_WELL:
            return
    rescue()


def _drop_descriptors(keep: t.Collection[int]) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in {0, 1, 2, *keep}:
            with contextlib.suppress(OSError):  # that of the listing itself has gone already
                os.close(int(name))
