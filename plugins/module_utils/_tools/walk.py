# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""From the root to what a name means, step by step: whose links lead there, and who could lead elsewhere."""

from __future__ import annotations

import contextlib
import os
import stat
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors

#: as many as the kernel follows
_MOST_LINKS = 40


class Link(t.NamedTuple):
    """A symbolic link on the way: its owner, and the directory it lies in (a name without links)."""

    owner: int
    directory: str


def open_path(name: str) -> t.Tuple[int, t.FrozenSet[int]]:
    """(an O_PATH descriptor of what C(name) leads to, the owners of the links on the way), each step taken once.

    Raises EngineError where it leads to nothing.
    """
    found: t.List[Link] = []
    return _follow(name, found), frozenset(link.owner for link in found)


def links(name: str) -> t.List[Link]:
    """The links on the way that C(name) leads, as far as it leads anywhere."""
    found: t.List[Link] = []
    with contextlib.suppress(errors.EngineError):
        os.close(_follow(name, found))
    return found


def _follow(name: str, found: t.List[Link]) -> int:
    todo = [part for part in reversed(name.split("/")) if part]
    here = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        while todo:
            step = os.open(todo.pop(), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            facts = os.fstat(step)
            if not stat.S_ISLNK(facts.st_mode):
                here = _instead(here, step)
                continue
            found.append(Link(facts.st_uid, os.readlink("/proc/self/fd/%d" % here)))
            target = _target(step, len(found), name)
            todo += [part for part in reversed(target.split("/")) if part]
            if target.startswith("/"):
                here = _instead(here, os.open("/", os.O_PATH | os.O_CLOEXEC))
    except OSError as exc:
        os.close(here)
        raise errors.EngineError("%s cannot be opened: %s" % (name, exc.strerror), path=name) from exc
    except BaseException:
        os.close(here)
        raise
    return here


def _instead(old: int, new: int) -> int:
    os.close(old)
    return new


def _target(link: int, count: int, name: str) -> str:
    try:
        if count > _MOST_LINKS:
            raise errors.EngineError("%s cannot be opened: too many symbolic links" % name, path=name)
        return os.readlink("", dir_fd=link)
    finally:
        os.close(link)


class Mover(t.NamedTuple):
    """A directory in which others than root and this user can put something else in the place of what is there.

    C(owner): the directory is theirs; else its C(mode) lets a group or anyone write, and does not keep them from
    renaming what they do not own (the sticky bit).
    """

    directory: str
    owner: int
    mode: int

    @property
    def owned(self) -> bool:
        """Whether it belongs to another user, who is nobody that the administrator has let in by a mode."""
        return self.owner not in (0, os.geteuid())


def movers(directory: str) -> t.List[Mover]:
    """Those of C(directory) and the directories above it (names without links) where others can move things."""
    found = []
    at = directory
    while True:
        seen = os.lstat(at)
        mover = Mover(at, seen.st_uid, stat.S_IMODE(seen.st_mode))
        if mover.owned or (seen.st_mode & 0o022 and not seen.st_mode & stat.S_ISVTX):
            found.append(mover)
        if at == os.path.dirname(at):
            return found
        at = os.path.dirname(at)


def unsafe_mover(directory: str) -> t.Optional[Mover]:
    """Who can put something else in the place of a file in C(directory), or of one above; None for nobody, as far as
    root, this user and the groups that the administrator has let in are trusted.

    An ordinary user's task can do no more in another's directory than that user: it only counts for root's.
    """
    if not os.path.isdir(directory):
        return None
    root = os.geteuid() == 0
    found = [each for each in movers(directory) if (each.owned and root) or each.mode & 0o002]
    return found[0] if found else None


class Owned(t.NamedTuple):
    """Why another user decides what a name means when root opens it. C(fact): the rest of a sentence about what is."""

    fact: str
    evidence: t.Dict[str, t.Any]

    @staticmethod
    def way_out(what: str) -> str:
        """A sentence."""
        return "Run the task as that user (become_user), or keep %s in a directory of root's." % what


def owned_name(name: str) -> t.Optional[Owned]:
    """Whether another user can lead C(name) to another file while root works on it; None where nobody can, and for an
    ordinary user, whose task can do no more than that user.
    """
    if os.geteuid() != 0:
        return None
    found = links(name)
    for owner in (link.owner for link in found if link.owner not in (0, os.geteuid())):
        return Owned(
            "through a symbolic link of user %d, who can lead it to another file" % owner, evidence={"owner": owner}
        )
    ways = dict.fromkeys([*(link.directory for link in found), os.path.dirname(os.path.realpath(name))])
    for mover in (mover for way in ways if os.path.isdir(way) for mover in movers(way) if mover.owned):
        fact = "and %s belongs to user %d, who can give that name to another file meanwhile"
        evidence = {"directory": mover.directory, "owner": mover.owner}
        return Owned(fact % tuple(evidence.values()), evidence)
    return None
