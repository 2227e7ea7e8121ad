# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""A file of somebody else's, held still while it is judged and read: one descriptor for all readers, and a lease."""

from __future__ import annotations

import fcntl
import os
import signal
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, walk


class StillFile:
    """The file that C(name) leads to now, whatever its owner does with the name afterwards.

    C(path) is how this process and its children open that very file. C(leased): nobody had it open for writing, also
    not by mmap(2), and whoever opens it meanwhile is noticed (C(disturbed)). C(strangers): other users whose symbolic
    links were followed to it, though it is not theirs.
    """

    def __init__(self, name: str, *, lease: bool = True) -> None:
        self.name = name
        found, owners = walk.open_path(name)
        try:
            self._descriptor = os.open("/proc/self/fd/%d" % found, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as exc:
            raise errors.EngineError("%s cannot be opened: %s" % (name, exc.strerror), path=name) from exc
        finally:
            os.close(found)
        self.path = "/proc/%d/fd/%d" % (os.getpid(), self._descriptor)
        self.leased = lease and _lease(self._descriptor)
        self.facts = files.file_facts(self.path)
        self.strangers = sorted(owners - {0, os.geteuid(), self.facts.owner})

    def __enter__(self) -> StillFile:
        return self

    def __exit__(self, *_unused: t.Any) -> None:
        os.close(self._descriptor)

    @property
    def others_write(self) -> bool:
        """Whether another user than root and this one may write to it."""
        return self.facts.owner not in (0, os.geteuid()) or bool(self.facts.mode & 0o022)

    @property
    def disturbed(self) -> bool:
        """Whether somebody has opened it for writing, or has changed it, since it was opened here."""
        if self.leased and fcntl.fcntl(self._descriptor, fcntl.F_GETLEASE) != fcntl.F_RDLCK:
            return True
        return changed(self.facts, files.file_facts(self.path))


def changed(before: files.FileFacts, now: files.FileFacts) -> bool:
    """Whether it is another file, or was written to (ctime tells what utimensat(2) hides)."""
    names = ("identity", "length", "mtime_ns", "ctime_ns")
    return any(getattr(before, name) != getattr(now, name) for name in names)


def _lease(descriptor: int) -> bool:
    """A read lease (fcntl(2)): granted by local file systems to the owner and to root while nobody writes."""
    try:
        # who opens it for writing has us sent a signal: one that is ignored unless it is asked for
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError:
        return False
    return True
