# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""A private place to build an image in, beside where it will be; and those that killed runs have left."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._tools import pinned, walk

#: build directories are named C(.platter-tmp.<12 hex of the image's name>.<8 hex>), in the image's own directory
TEMP_PREFIX = ".platter-tmp."
#: the sticky bit says nothing of a directory that only root may write to, so nobody sets it: it tells ours from one
#: that its own user, who cannot set it, has given such a name
_BUILD_MODE = 0o1700


def _temp_tag(path: str) -> str:
    return TEMP_PREFIX + hashlib.sha256(os.fsencode(os.path.basename(path))).hexdigest()[:12] + "."


class BuildDirectory:
    """A private directory (0700) beside C(path): what is built there can be renamed to C(path) in one step.

    C(owner): the image that it is called after, for C(stale_builds), if that is not C(path).
    """

    def __init__(self, path: str, *, another_name: bool = False, owner: t.Optional[str] = None) -> None:
        generation = secrets.token_hex(4)
        self._pinned: t.Optional[pinned.PinnedDirectory] = None
        self.directory = os.path.join(os.path.dirname(path), _temp_tag(owner or path) + generation)
        stem, ending = os.path.splitext(os.path.basename(path))
        #: leave it for the next run, which finds in it what is still to be removed
        self.keep = False
        #: the image being built, under its final base name; or under C(another_name), which the names of its members
        #: are made from, so that they can lie beside those of the image that it replaces
        self.path = os.path.join(self.directory, (stem + "-" + generation if another_name else stem) + ending)

    def __enter__(self) -> BuildDirectory:
        try:
            os.mkdir(self.directory, _BUILD_MODE)
        except OSError as exc:
            raise errors.EngineError(
                "nothing can be made in %s: %s" % (os.path.dirname(self.directory), exc.strerror)
            ) from exc
        if pinned.is_pinned(self.directory):
            self._pin()
        return self

    def _pin(self) -> None:
        """Who owns the directory above can rename this one."""
        held = pinned.PinnedDirectory(self.directory)
        try:
            held.refuse_foreign()
        except BaseException:
            held.__exit__()
            raise
        self._pinned, self.directory = held, held.path
        self.path = os.path.join(held.path, os.path.basename(self.path))

    def __exit__(self, *_unused: t.Any) -> None:
        if self._pinned:
            with self._pinned as held:
                if not self.keep:
                    held.remove()
        elif not self.keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    def adopt(self, path: str) -> str:
        """Another name of the file at C(path), here, where nobody can give that name to something else.

        Raises RefusedError for what is no file, or has further names: that may be somebody else's.
        """
        own = self.spare("adopted-" + os.path.basename(path))
        os.link(path, own, follow_symlinks=False)
        seen = os.lstat(own)
        if not stat.S_ISREG(seen.st_mode) or seen.st_nlink != 2:
            raise errors.RefusedError(
                "a change",
                path,
                "it is no regular file any more, or has further names",
                reason="changed_meanwhile",
                way_out="Run the task again.",
                joined="of",
            )
        return own

    def spare(self, name: str) -> str:
        """Another path inside, for an intermediate file."""
        return os.path.join(self.directory, ".spare-" + name)


def stale_builds(path: str, names: t.Optional[t.Iterable[str]] = None) -> t.List[str]:
    """Build directories that earlier runs for C(path) left behind. Hold the image's lock before believing it."""
    directory = os.path.dirname(path)
    if names is None:
        names = os.listdir(directory) if os.path.isdir(directory) else []
    tag = _temp_tag(path)
    found = sorted(os.path.join(directory, name) for name in names if name.startswith(tag))
    return [build for build in found if _made_by_us(build)]


def _made_by_us(build: str) -> bool:
    try:
        seen = os.lstat(build)
    except OSError:
        return False
    return is_build(seen, os.path.dirname(build))


def is_build(seen: os.stat_result, directory: str) -> bool:
    """Whether C(seen), of the name of a build directory in C(directory), is one.

    Where others can write, anyone can make something of that name, or give it to a directory of root's. Where nobody
    else can, it needs no sticky bit: not every file system keeps that.
    """
    ours = stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.geteuid() and not seen.st_mode & 0o077
    return ours and (bool(seen.st_mode & stat.S_ISVTX) or not walk.movers(directory))
