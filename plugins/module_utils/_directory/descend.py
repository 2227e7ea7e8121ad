# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Directories by descriptors: each step of the way is taken once, and through no link that another user has made.

What is then said of a directory (owner, mode) is said of the one that was opened, whatever its name leads to by then.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, walk

_NEW_MODE = 0o755
_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Opened(t.NamedTuple):
    """The nearest directory that is there, as an open descriptor, and the names below it that are missing."""

    descriptor: int
    missing: t.Tuple[str, ...]


def name_of(descriptor: int) -> str:
    """A path that is the open directory, and no link to it: what changes the owner of links changes that of the directory."""
    return "/proc/self/fd/%d/." % descriptor


@contextlib.contextmanager
def opened(path: str) -> t.Iterator[Opened]:
    """The directory at C(path), or the nearest above it. Raises RefusedError: C(unsafe_directory) where a link of another
    user's leads there, C(directory_missing) where something else than a directory is on the way.
    """
    for link in walk.links(path):
        _refuse_foreign(path, {link.owner}, link.directory)
    descriptor, missing = _nearest(path)
    try:
        _refuse_no_directory(path, descriptor)
        yield Opened(descriptor, missing)
    finally:
        os.close(descriptor)


def _nearest(path: str) -> t.Tuple[int, t.Tuple[str, ...]]:
    missing: t.List[str] = []
    while True:
        try:
            descriptor, owners = walk.open_path(path)
        except errors.EngineError as exc:
            if not isinstance(exc.__cause__, (FileNotFoundError, NotADirectoryError)) or os.path.islink(path):
                raise
            path, name = os.path.split(path)
            missing.insert(0, name)
            continue
        try:
            _refuse_foreign(path, owners, os.path.dirname(path))
        except errors.RefusedError:
            os.close(descriptor)
            raise
        return descriptor, tuple(missing)


def _refuse_no_directory(path: str, descriptor: int) -> None:
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        there = os.readlink("/proc/self/fd/%d" % descriptor)
        raise _refused(path, "directory_missing", "%s is no directory" % there, "Correct the path.", {"path": there})


def _refuse_foreign(path: str, owners: t.AbstractSet[int], directory: str) -> None:
    others = owners - {0, os.geteuid()}
    if others:
        fact = "a symbolic link of user %d in %s leads there, who can lead it anywhere" % (min(others), directory)
        evidence = {"directory": directory, "owner": min(others)}
        raise _refused(path, "unsafe_directory", fact, "Remove the link, or write where it leads.", evidence)


def make(path: str, found: Opened, dress: t.Callable[[str], None]) -> None:
    """The missing directories, on stable storage. C(dress): makes the one of that name as the task says. Raises RefusedError
    where somebody else was first.
    """
    here = os.dup(found.descriptor)
    try:
        for name in found.missing:
            above, here = here, _made(path, here, name)
            os.close(above)
            dress(name_of(here))
    finally:
        os.close(here)


def _made(path: str, here: int, name: str) -> int:
    try:
        os.mkdir(name, _NEW_MODE, dir_fd=here)
        below = os.open(name, _STEP, dir_fd=here)
    except OSError as exc:
        if exc.errno in (errno.EEXIST, errno.ENOTDIR, errno.ELOOP):
            raise _meanwhile(path, name) from exc
        raise
    if os.fstat(below).st_uid != os.geteuid():
        os.close(below)
        raise _meanwhile(path, name)
    files.fsync_path(name_of(here))
    return below


def _meanwhile(path: str, name: str) -> errors.RefusedError:
    way_out = "Look at who did that, and run the task again."
    return _refused(path, "changed_meanwhile", "%s was put there meanwhile" % name, way_out, {})


def _refused(path: str, reason: str, fact: str, way_out: str, evidence: t.Mapping[str, t.Any]) -> errors.RefusedError:
    return errors.RefusedError(
        "a directory", path, fact, reason=reason, way_out=way_out, evidence=evidence, joined="at"
    )
