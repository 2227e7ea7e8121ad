# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Where exports keep what they need at run time: sockets, definitions, logs, and the program that supervises them."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._export import qemu_nodes
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, walk


def socket_directory() -> str:
    """For root C(/run/platter), for others a directory of the user's own. Sockets lie in it that no task names."""
    if os.geteuid() == 0:
        return "/run/platter"
    parent = os.environ.get("XDG_RUNTIME_DIR")
    return os.path.join(parent, "platter") if parent else tempfile.gettempdir() + "/platter-%d" % os.geteuid()


def export_directory(name: str, supervisor: str = "process") -> str:
    """Where the definition and the log of an export are; with systemd, which has both, the keys of its clients."""
    return os.path.join(_top(supervisor), "nbd", name)


def _top(supervisor: str) -> str:
    """What a unit needs has to be there at the next boot."""
    return "/var/lib/platter" if supervisor == "systemd" else socket_directory()


def host_name(daemon: str) -> str:
    """What a storage daemon is called where exports have names: no export has such a one."""
    return ":" + daemon


def declarations(daemon: str, supervisor: str) -> str:
    """The directory of what is declared of the exports of a storage daemon."""
    return os.path.join(export_directory(host_name(daemon), supervisor), "exports")


def monitor(daemon: str) -> str:
    """The QMP socket of a storage daemon."""
    return os.path.join(socket_directory(), daemon + ".qmp")


def any_hosts() -> bool:
    """Whether there may be storage daemons of ours."""
    return bool(hosts("process") or hosts("systemd"))


def hosts(supervisor: str) -> t.List[str]:
    """The storage daemons of which anything is declared."""
    try:
        return [name[1:] for name in os.listdir(os.path.join(_top(supervisor), "nbd")) if name.startswith(":")]
    except OSError:
        return []


def definition_file(name: str) -> str:
    """The file that declares an export."""
    return os.path.join(export_directory(name), "export.json")


def log_file(name: str) -> str:
    """What the server and its supervisor have said."""
    return os.path.join(export_directory(name), "log")


def program_file(name: str = "supervise.py", supervisor: str = "process") -> str:
    """A program of ours, by default the supervisor; for all exports."""
    return os.path.join(_top(supervisor), "nbd", name)


def make_top(supervisor: str = "process") -> None:
    """The directories that all exports share."""
    top = _top(supervisor)
    _make(top, 0o711)
    _make(os.path.join(top, "nbd"), 0o700)


def make_directories(name: str, supervisor: str = "process") -> None:
    """The directory of an export, with all above it."""
    make_top(supervisor)
    _make(export_directory(name, supervisor), 0o700)


def link_keys(directory: str, psk_file: t.Optional[str]) -> None:
    """QEMU takes keys from a directory, under a name of its own; and what lets it start at once, if that lies there."""
    beside = os.path.join(os.path.dirname(psk_file or "/"), "dh-params.pem")
    for name, target in ((qemu_nodes.PSK_NAME, psk_file), ("dh-params.pem", beside)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, name))
        if psk_file and target and os.path.exists(target):
            os.symlink(target, os.path.join(directory, name))


def write(path: str, text: str, mode: int) -> None:
    """A file of ours, old or new, never in between."""
    built = "%s.%d" % (path, os.getpid())
    descriptor = os.open(built, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(built, path)
    files.fsync_path(os.path.dirname(path))


def find_room(path: str, text: str) -> None:
    """Raises OSError where a file like that cannot be written, before what it replaces has ended."""
    directory = os.path.dirname(path)
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    with tempfile.NamedTemporaryFile("w", dir=directory, encoding="utf-8", errors="surrogateescape") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def _make(directory: str, mode: int) -> None:
    """Raises RefusedError where another user could meddle."""
    try:
        os.mkdir(directory, mode)
    except FileExistsError:
        pass
    except OSError as exc:
        raise errors.EngineError("%s cannot be made: %s" % (directory, exc.strerror)) from exc
    _refuse_unsafe(directory)


def refuse_unsafe_top() -> None:
    """What is declared of exports is believed, and run: nobody else may have put it there. Raises RefusedError."""
    if os.path.lexists(socket_directory()):
        _refuse_unsafe(socket_directory())


def _refuse_unsafe(directory: str) -> None:
    problem = directory_problem(directory)
    if problem:
        reason, fact, way_out = problem
        raise errors.RefusedError("exports", directory, fact, reason=reason, way_out=way_out, joined="in")


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
