# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The processes of this host, by their command lines, and how they are ended for certain."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import typing as t

_POLL_SECONDS = 0.02
#: seconds between two requests to end
_ASK_AGAIN = 1.0
#: seconds that the kernel may take to close what a process had open, once it is not seen any more by its command line
CLOSING_SECONDS = 2.0


def own_processes() -> t.Dict[int, t.Tuple[str, ...]]:
    """The command line of every process of this user, by its number. Another user can call a program as he likes."""
    found = {}
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            if os.stat("/proc/%d" % pid).st_uid == os.geteuid():
                words = command_line(pid)
                if words:
                    found[pid] = words
        except OSError:  # ended meanwhile
            continue
    return found


def command_line(pid: int) -> t.Tuple[str, ...]:
    """Of one process; empty for one that has ended and was not waited for. Raises OSError when there is none."""
    with open("/proc/%d/cmdline" % pid, "rb") as stream:
        words = stream.read().split(b"\0")
    return tuple(os.fsdecode(word) for word in words[:-1])


def parent_of(pid: int) -> int:
    """The number of its parent; 0 when it has ended."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def runs(pid: int) -> bool:
    """Whether it has not ended, waited for or not."""
    return _stat(pid)[:1] not in ([], [b"Z"], [b"X"])


def lives(pid: int) -> bool:
    """Whether it is there and has not begun to end: what ends has no command line any more."""
    try:
        return bool(command_line(pid))
    except OSError:
        return False


def closes(pid: int) -> bool:
    """Whether it ends just now: one of its threads still does, and with the last one all that it has open is closed (ports,
    locks of images).
    """
    try:
        threads = os.listdir("/proc/%d/task" % pid)
    except OSError:
        return False
    return not lives(pid) and any(runs(int(each)) for each in threads)


def is_stopped(pid: int) -> bool:
    """Whether it does nothing until somebody lets it go on (C(SIGSTOP))."""
    return _stat(pid)[:1] in ([b"T"], [b"t"])


def _stat(pid: int) -> t.List[bytes]:
    """From its state on (proc(5)); nothing when it has ended."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as stream:
            return stream.read().rpartition(b")")[2].split()
    except OSError:
        return []


def name_of(pid: int) -> str:
    """The kernel's short name of a process (C(comm)); C(?) when it has ended."""
    try:
        with open("/proc/%d/comm" % pid, "rb") as stream:
            return os.fsdecode(stream.read()).strip()
    except OSError:
        return "?"


def end_all(find: t.Callable[[], t.Iterable[int]], seconds: float, *, kill_after: bool = False) -> bool:
    """Ask what C(find) finds to end (SIGTERM), again and again, until it finds nothing; whether that came in time. What they
    had open is closed then.

    With C(kill_after) what is left then is killed (SIGKILL), for processes that can lose nothing by it.
    """
    deadline = time.monotonic() + seconds
    asked: t.Dict[int, float] = {}
    while True:
        left = list(find())
        if not left:
            let_close(asked)
            return True
        late = time.monotonic() >= deadline
        if late and (not kill_after or time.monotonic() >= deadline + seconds):
            return False
        for pid in left:
            if late or time.monotonic() - asked.get(pid, 0.0) >= _ASK_AGAIN:
                asked[pid] = time.monotonic()
                _send(pid, signal.SIGKILL if late else signal.SIGTERM)
        time.sleep(_POLL_SECONDS)


def let_close(pids: t.Collection[int]) -> None:
    """Wait until those of them that have ended have closed what they had open."""
    deadline = time.monotonic() + CLOSING_SECONDS
    while any(closes(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
