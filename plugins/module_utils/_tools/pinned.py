# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Directories held by a descriptor, for places where others can put something else under every name."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors

_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class PinnedDirectory:
    """The directory that C(name) is now. C(path) is how this process and its children reach it, whatever is renamed.

    C(name) has no links: it is absolute and resolved, or an entry of a pinned directory. Raises RefusedError
    (changed_meanwhile) when a link has taken the place of one of its directories.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        try:
            self._descriptor = os.open(name, _FLAGS) if is_pinned(name) else _by_steps(name)
        except OSError as exc:
            raise _replaced(name, exc.strerror) from exc
        self.path = "/proc/%d/fd/%d" % (os.getpid(), self._descriptor)

    def __enter__(self) -> PinnedDirectory:
        return self

    def __exit__(self, *_unused: t.Any) -> None:
        os.close(self._descriptor)

    @property
    def seen(self) -> os.stat_result:
        """What it is."""
        return os.fstat(self._descriptor)

    @property
    def is_ours(self) -> bool:
        """Whether nobody else can do anything in it."""
        seen = self.seen
        return seen.st_uid == os.geteuid() and not seen.st_mode & 0o077

    def refuse_foreign(self) -> None:
        """For one that was made just now: what others have put in its place is not ours, or not empty."""
        if not self.is_ours or os.listdir(self.path):
            raise _replaced(self.name, "another one has taken its place")

    def remove(self) -> None:
        """All that is in it, and its name, as far as that goes."""
        for entry in os.listdir(self.path):
            name = os.path.join(self.path, entry)
            with contextlib.suppress(OSError):
                if stat.S_ISDIR(os.lstat(name).st_mode):
                    shutil.rmtree(name, ignore_errors=True)
                else:
                    os.unlink(name)
        with contextlib.suppress(OSError):
            os.rmdir(self.name)


def is_pinned(path: str) -> bool:
    """Whether C(path) leads through a descriptor of ours."""
    return path.startswith("/proc/%d/fd/" % os.getpid())


def _by_steps(name: str) -> int:
    here = os.open("/", _FLAGS)
    for part in filter(None, name.split("/")):
        try:
            step = os.open(part, _FLAGS, dir_fd=here)
        finally:
            os.close(here)
        here = step
    return here


def _replaced(name: str, fact: t.Optional[str]) -> errors.RefusedError:
    return errors.RefusedError(
        "work",
        name,
        "the directory was replaced or removed (%s)" % fact,
        reason="changed_meanwhile",
        way_out="Run the task again; keep images where only root, or the user who runs the task, can rename things.",
        joined="in",
    )
