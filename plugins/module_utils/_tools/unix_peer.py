# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""A server's Unix socket: whether it may be trusted, a connection to it, and which processes are behind it."""

from __future__ import annotations

import os
import socket
import stat
import struct
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors

_COLUMNS = 8
_UCRED = struct.Struct("3i")


def connect_safely(path: str, trusted: t.Iterable[int] = ()) -> socket.socket:
    """A connection to the very socket that was found safe, whatever the length of its name. Never blocks.

    C(trusted): user ids besides root and ourselves whose socket is accepted. Raises RefusedError (unsafe_qmp_socket:
    who speaks QMP with a QEMU can run programs as its user, and who answers in its place can mislead us), or OSError.
    """
    owners = {0, os.geteuid(), *trusted}
    found = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        refuse_unsafe_socket(path, os.fstat(found), owners)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.connect("/proc/self/fd/%d" % found)
            _refuse_other_server(path, connection, owners)
        except BaseException:
            connection.close()
            raise
        return connection
    finally:
        os.close(found)


def refuse_unsafe_socket(path: str, found: os.stat_result, owners: t.Set[int]) -> None:
    """C(found) is what C(path) leads to; all directories and links on the way are looked at."""
    if not stat.S_ISSOCK(found.st_mode):
        raise _unsafe(path, "it is not a socket", "Name the socket that QEMU was given.", {})
    if found.st_uid not in owners:
        raise _foreign(path, path, found.st_uid)
    private = False
    for step in _steps(path):
        info = os.lstat(step)
        if info.st_uid not in owners:
            raise _foreign(path, step, info.st_uid)
        if stat.S_ISDIR(info.st_mode):
            if not private:
                _refuse_writable(path, step, info)
            # who cannot pass this directory cannot reach what is below, whatever its mode says
            private = private or not info.st_mode & 0o011
    if not private and _others_write(found):
        raise _unsafe(
            path,
            "others can connect to it (mode %04o, group %d)" % (stat.S_IMODE(found.st_mode), found.st_gid),
            "Give it the mode 0600, or put it into a directory with the mode 0700.",
            {"mode": "%04o" % stat.S_IMODE(found.st_mode), "group": found.st_gid},
        )


def _steps(path: str) -> t.Iterator[str]:
    """Every directory and link on the way from the root, by the name given, then by the true one."""
    for way in dict.fromkeys((os.path.abspath(path), os.path.realpath(path))):
        at = "/"
        yield at
        for name in way.strip("/").split("/"):
            at = os.path.join(at, name)
            yield at


def _others_write(info: os.stat_result) -> bool:
    """By anyone, or by a group that is neither root's nor our own."""
    return bool(info.st_mode & 0o002 or (info.st_mode & 0o020 and info.st_gid not in (0, os.getegid())))


def _refuse_writable(path: str, directory: str, info: os.stat_result) -> None:
    if _others_write(info) and not info.st_mode & stat.S_ISVTX:
        raise _unsafe(
            path,
            "others can replace it: they can write to %s (mode %04o)" % (directory, stat.S_IMODE(info.st_mode)),
            "Take write permission on that directory from others.",
            {"directory": directory, "mode": "%04o" % stat.S_IMODE(info.st_mode)},
        )


def _refuse_other_server(path: str, connection: socket.socket, owners: t.Set[int]) -> None:
    user = _credentials(connection)[1]
    if user not in owners:
        raise _foreign(path, "the process behind it", user)


def _foreign(path: str, what: str, owner: int) -> errors.RefusedError:
    return _unsafe(
        path,
        "%s belongs to user %d" % ("it" if what == path else what, owner),
        "Run the task as the user who runs the VM.",
        {"owner": owner, "what": what},
    )


def _unsafe(path: str, fact: str, way_out: str, evidence: t.Mapping[str, t.Any]) -> errors.RefusedError:
    return errors.RefusedError(
        "connecting to",
        path,
        fact,
        reason="unsafe_qmp_socket",
        way_out=way_out,
        evidence={"socket": path, **evidence},
        joined="",
    )


def _credentials(connection: socket.socket) -> t.Tuple[int, int]:
    """(process id, user id) of whoever called listen(); 0 for a process of another process namespace."""
    pid, uid, _gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid


def peer_pids(connection: socket.socket, path: str) -> t.FrozenSet[int]:
    """The processes that hold the server's socket, ourselves excepted.

    SO_PEERCRED alone names who called listen(): libvirtd, where it passed the socket on. So the sockets bound to the
    same file are looked up in C(/proc/net/unix) (listening, and those accepted from it) and their holders in C(/proc).
    A name there is as its server wrote it, in that server's directory and mount namespace.
    """
    listener = _credentials(connection)[0]
    identity = _identity(path)
    named = _sockets_named(os.path.basename(os.path.realpath(path)))
    pids = set()
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        if pid == os.getpid():
            continue
        held = {named[number] for number in sockets_of(pid) if number in named}
        if held and (pid == listener or any(_identity(_seen_by(pid, name)) == identity for name in held)):
            pids.add(pid)
    return frozenset(pids or ({listener} if listener else ()))


def _sockets_named(base: str) -> t.Dict[str, str]:
    """Socket number -> the name it is bound to, for all whose name ends so. The columns: C(net/unix/af_unix.c)."""
    with open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as lines:
        columns = [line.rstrip("\n").split(None, _COLUMNS - 1) for line in lines]
    return {each[6]: each[7] for each in columns if len(each) == _COLUMNS and os.path.basename(each[7]) == base}


def sockets_of(pid: int) -> t.Iterator[str]:
    """The numbers of the sockets that a process has open; none of one that has ended, or is another user's."""
    directory = "/proc/%d/fd/" % pid
    try:
        numbers = os.listdir(directory)
    except OSError:  # ended, or another user's
        return
    for number in numbers:
        try:
            link = os.readlink(directory + number)
        except OSError:
            continue
        if link.startswith("socket:["):
            yield link[8:-1]


def _seen_by(pid: int, name: str) -> str:
    return "/proc/%d/%s" % (pid, "root" + name if name.startswith("/") else "cwd/" + name)


def _identity(path: str) -> t.Optional[t.Tuple[int, int]]:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino
