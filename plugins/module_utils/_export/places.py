# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Where exports keep what they need at run time: sockets, definitions, logs, and the program that supervises them."""

from __future__ import annotations

import os
import stat
import tempfile
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors

_PROGRAM = "supervise.py"


def socket_directory() -> str:
    """For root C(/run/platter), for others a directory of the user's own. Sockets lie in it that no task names."""
    if os.geteuid() == 0:
        return "/run/platter"
    parent = os.environ.get("XDG_RUNTIME_DIR")
    return os.path.join(parent, "platter") if parent else tempfile.gettempdir() + "/platter-%d" % os.geteuid()


def export_directory(name: str) -> str:
    """Where the definition and the log of an export are."""
    return os.path.join(socket_directory(), "nbd", name)


def definition_file(name: str) -> str:
    """The file that declares an export."""
    return os.path.join(export_directory(name), "export.json")


def log_file(name: str) -> str:
    """What the server and its supervisor have said."""
    return os.path.join(export_directory(name), "log")


def program_file() -> str:
    """The supervisor, for all exports."""
    return os.path.join(socket_directory(), "nbd", _PROGRAM)


def make_top() -> None:
    """The directories that all exports share."""
    top = socket_directory()
    _make(top, 0o711)
    _make(os.path.join(top, "nbd"), 0o700)


def make_directories(name: str) -> None:
    """The directory of an export, with all above it."""
    make_top()
    _make(export_directory(name), 0o700)


def _make(directory: str, mode: int) -> None:
    """Raises RefusedError where another user could meddle."""
    try:
        os.mkdir(directory, mode)
    except FileExistsError:
        pass
    except OSError as exc:
        raise errors.EngineError("%s cannot be made: %s" % (directory, exc.strerror)) from exc
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
        fact = "others can put something into %s (owner %d, mode %04o)"
        text = fact % (directory, info.st_uid, stat.S_IMODE(info.st_mode))
        return "unsafe_directory", text, "Use a directory that only its owner can write to."
    return None
