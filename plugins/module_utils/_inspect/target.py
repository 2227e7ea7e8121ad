# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Which file the name of an image means. Read-only."""

from __future__ import annotations

import os
import stat

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._tools import walk


def resolve_target(path: str, *, gone: bool = False) -> str:
    """The file behind C(path): directories resolved, a symbolic link followed if its place can be trusted. C(gone): it may
    lead to nothing.
    """
    resolved = resolve_new(path)
    try:
        seen = os.lstat(resolved)
    except OSError:  # absent, or in a directory that is reported on later
        return resolved
    if not stat.S_ISLNK(seen.st_mode):
        return resolved
    if seen.st_uid not in (0, os.geteuid()):
        raise _planted_link(path, seen.st_uid)
    target = os.path.realpath(resolved)
    if not os.path.exists(target):
        if gone:
            return target
        raise _dangling_link(path, target)
    return _behind(resolved, path, "a file")


def resolve_base(path: str) -> str:
    """The file behind the name of a base: as C(resolve_target) does it, but another user's link to a file of that user's
    is followed too, as the base is only read.
    """
    if os.path.realpath(path) == path:  # most are: there are no links
        return path
    resolved = resolve_new(path)
    if os.path.exists(resolved):
        return _behind(resolved, path, "a file")
    if os.path.islink(resolved):
        owner = os.lstat(resolved).st_uid
        if owner not in (0, os.geteuid()):
            raise _planted_link(path, owner)
    return os.path.realpath(resolved)


def resolve_new(path: str) -> str:
    """The name of a file that is to be made, with its directory resolved. Raises RefusedError where another user's link
    leads to a directory of somebody else's.
    """
    return os.path.join(_behind(os.path.dirname(path), path, "its directory"), os.path.basename(path))


def _behind(name: str, path: str, what: str) -> str:
    """Where C(name) leads, without links. Those of other users are followed to what is their own only."""
    try:
        found, owners = walk.open_path(name)
    except errors.EngineError:  # it is reported on later
        return os.path.realpath(name)
    try:
        owner = os.fstat(found).st_uid
        strangers = sorted(owners - {0, os.geteuid(), owner})
        if strangers:
            raise _leading_link(path, strangers[0], what)
        return os.readlink("/proc/self/fd/%d" % found)
    finally:
        os.close(found)


def _leading_link(path: str, owner: int, what: str) -> errors.RefusedError:
    return errors.RefusedError(
        "the path",
        path,
        "a symbolic link of another user (%d) leads to %s that is not that user's" % (owner, what),
        reason="unsafe_directory",
        way_out="Write the path without that link.",
        evidence={"owner": owner},
        joined="",
    )


def _dangling_link(path: str, target: str) -> errors.RefusedError:
    return errors.RefusedError(
        "the path",
        path,
        "it is a symbolic link to %s, which does not exist" % target,
        reason="dangling_symlink",
        way_out="Remove the link, or name its target.",
        evidence={"target": target},
        joined="",
    )


def _planted_link(path: str, owner: int) -> errors.RefusedError:
    """Only links of root or of this user are followed: another user can lead them anywhere at any time."""
    return errors.RefusedError(
        "the path",
        path,
        "it is a symbolic link of another user (%d)" % owner,
        reason="unsafe_directory",
        way_out="Name the file that it leads to.",
        evidence={"owner": owner},
        joined="",
    )
