# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Directories and files of ours that outlive a task: sockets, definitions, logs, programs. Where others could meddle, nothing is
put.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, walk

#: in which a program of ours that outlives a task looks for others
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: characters of a file that are read
_LARGEST = 1 << 20


def socket_directory() -> str:
    """For root C(/run/platter), for others a directory of the user's own. Sockets lie in it that no task names."""
    if os.geteuid() == 0:
        return "/run/platter"
    parent = os.environ.get("XDG_RUNTIME_DIR")
    return os.path.join(parent, "platter") if parent else tempfile.gettempdir() + "/platter-%d" % os.geteuid()


def top(supervisor: str) -> str:
    """Where things are that C(supervisor) watches over: what a unit of systemd needs has to be there at the next boot."""
    return "/var/lib/platter" if supervisor == "systemd" else socket_directory()


def write(path: str, text: str, mode: int) -> None:
    """A file of ours, old or new, never in between; on the disk when it returns."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"), mode)


def write_bytes(path: str, data: bytes, mode: int) -> None:
    """The same of bytes. C(mode) is what it gets, whatever the umask is."""
    built = "%s.%d" % (path, os.getpid())
    descriptor = os.open(built, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(built, path)
    except OSError:  # no room: a part of it would take what is left, once for each process
        os.unlink(built)
        raise
    files.fsync_path(os.path.dirname(path))


def write_private(path: str, data: bytes, mode: int = 0o600) -> None:
    """The same, with the directory that it lies in, which only its owner can enter; whatever the umask is, nobody else can
    write to one above that is made.
    """
    directory = os.path.dirname(path)
    missing = []
    while not os.path.isdir(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another task was faster
            os.mkdir(each, 0o700 if each == missing[0] else 0o711)
    write_bytes(path, data, mode)


def read_bytes(path: str) -> bytes:
    """What is in a file; nothing where there is none that can be read."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError:
        return b""


def read(path: str) -> t.Optional[str]:
    """The text of such a file; None where there is none, or something else than a file. Raises EngineError."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read(_LARGEST)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise errors.EngineError("%s cannot be read: %s" % (exc.filename, exc.strerror)) from exc


def find_room(path: str, data: bytes) -> None:
    """Raises OSError where a file like that cannot be written, before what it replaces has ended."""
    directory = os.path.dirname(path)
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    with tempfile.TemporaryFile(dir=directory) as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def make_directory(directory: str, mode: int, what: str) -> None:
    """For C(what), if it is not there yet. Raises RefusedError where another user could meddle."""
    try:
        os.mkdir(directory, mode)
    except FileExistsError:
        pass
    except OSError as exc:
        raise errors.EngineError("%s cannot be made: %s" % (directory, exc.strerror)) from exc
    refuse_unsafe(directory, what)


def refuse_unsafe(directory: str, what: str) -> None:
    """What lies there is believed, and run: nobody else may have put it there. Raises RefusedError. C(what) is kept there."""
    problem = directory_problem(directory)
    if problem:
        reason, fact, way_out = problem
        raise errors.RefusedError(what, directory, fact, reason=reason, way_out=way_out, joined="in")


def refuse_unsafe_way(directory: str, what: str) -> None:
    """The same of what is there of the way to C(directory), which may have to be made: what lies in it is run by root, so that
    nobody else may move one of the directories above it either.
    """
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    mover = next(iter(walk.movers(os.path.realpath(directory))), None)
    problem = _unsafe(*mover) if mover else directory_problem(directory)
    if problem:
        reason, fact, _other_place = problem
        way_out = "Give it to root, and take write permission from others (chown root, chmod go-w)."
        raise errors.RefusedError(what, directory, fact, reason=reason, way_out=way_out, joined="in")


def directory_problem(directory: str) -> t.Optional[t.Tuple[str, str, str]]:
    """Why sockets and definitions do not belong there, as (reason, fact, way out)."""
    try:
        info = os.stat(directory)
    except OSError as exc:
        return "directory_missing", "%s: %s" % (directory, exc.strerror), "Make the directory first."
    if not stat.S_ISDIR(info.st_mode):
        return "directory_missing", "%s is no directory" % directory, "Correct the path."
    others = stat.S_IMODE(info.st_mode) & 0o022 and not info.st_mode & stat.S_ISVTX
    if info.st_uid not in (0, os.geteuid()) or others:
        return _unsafe(directory, info.st_uid, stat.S_IMODE(info.st_mode))
    owners = {link.owner for link in walk.links(directory)} - {0, os.geteuid()}
    if owners:
        fact = "%s leads through a symbolic link of user %d, who can lead it elsewhere" % (directory, min(owners))
        return "unsafe_directory", fact, "Remove that link, or use another directory."
    return None


def shared_problem(directory: str) -> t.Optional[t.Tuple[str, str, str]]:
    """The same of a directory where names are what clients and servers go by: the sticky bit keeps nobody from taking one
    that is free, and who can move a directory above can put another one there.
    """
    problem = directory_problem(directory)
    if problem:
        return problem
    mode, mover = stat.S_IMODE(os.stat(directory).st_mode), walk.unsafe_mover(os.path.realpath(directory))
    if mover:
        return _unsafe(*mover)
    return _unsafe(directory, os.stat(directory).st_uid, mode) if mode & 0o002 else None


def _unsafe(directory: str, owner: int, mode: int) -> t.Tuple[str, str, str]:
    fact = "others can put something into %s (owner %d, mode %04o)"
    return "unsafe_directory", fact % (directory, owner, mode), "Use a directory that only its owner can write to."
