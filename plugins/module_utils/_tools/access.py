# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Who else can write to a file, and what such a user could open: by the kernel's own answer, opening nothing."""

from __future__ import annotations

import functools
import grp
import os
import pwd
import stat
import struct
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors

#: acl(5), as linux/posix_acl_xattr.h has it: a version, then (tag, permissions, id) of each entry
_ACL, _ACL_ENTRY, _ACL_HEADER = "system.posix_acl_access", "<HHI", 4
_USER, _OWNING_GROUP, _GROUP, _MASK = 0x02, 0x04, 0x08, 0x10
_MAY_WRITE = 2
#: a user that nobody is, and whom nothing belongs to
_STRANGER = 65533


class Writer(t.NamedTuple):
    """Somebody: a user, or else whoever is in a group; with neither, anyone."""

    uid: t.Optional[int] = None
    gid: t.Optional[int] = None

    def __str__(self) -> str:
        if self.uid is not None:
            return "user %d%s" % (self.uid, _called(pwd.getpwuid, self.uid))
        return "anyone" if self.gid is None else "group %d%s" % (self.gid, _called(grp.getgrgid, self.gid))


def _called(look_up: t.Callable[[int], t.Any], number: int) -> str:
    try:
        return " (%s)" % look_up(number)[0]
    except KeyError:
        return ""


def other_writers(path: str) -> t.FrozenSet[Writer]:
    """Who can write to the file at C(path), besides root and this user; an owner can always.

    Those are left out who could put another file in its place anyway, as they are let in by the mode of its directory;
    and the groups root and disk, whose members have the disks of the host.
    """
    try:
        directory = os.path.dirname(os.path.realpath(path))
        seen, around = os.stat(path), os.stat(directory)
    except OSError as exc:
        raise errors.EngineError("%s cannot be examined: %s" % (path, exc.strerror), path=path) from exc
    found = {Writer(uid=seen.st_uid), *_let_in(path, seen)}
    known = {Writer(uid=0), Writer(uid=os.geteuid()), *(Writer(gid=gid) for gid in _groups_of_root())}
    group = Writer(gid=around.st_gid)
    if group in _let_in(directory, around) and not around.st_mode & stat.S_ISVTX:
        known.add(group)
    return frozenset(found - known)


def _let_in(path: str, seen: os.stat_result) -> t.Iterator[Writer]:
    """By mode, or by access list: with one, the mode shows its mask where it would show what the group may do."""
    entries = _acl(path) or [(_OWNING_GROUP, seen.st_mode >> 3 & 7, 0)]
    mask = next((allowed for tag, allowed, _id in entries if tag == _MASK), 7)
    for tag, allowed, number in entries:
        if allowed & mask & _MAY_WRITE and tag in (_USER, _GROUP, _OWNING_GROUP):
            gid = seen.st_gid if tag == _OWNING_GROUP else number
            yield Writer(uid=number) if tag == _USER else Writer(gid=gid)
    if seen.st_mode & stat.S_IWOTH:
        yield Writer()


def _acl(path: str) -> t.List[t.Tuple[int, int, int]]:
    try:
        return list(struct.iter_unpack(_ACL_ENTRY, os.getxattr(path, _ACL)[_ACL_HEADER:]))
    except (OSError, struct.error):
        return []


@functools.lru_cache(maxsize=None)
def _groups_of_root() -> t.FrozenSet[int]:
    try:
        return frozenset((0, grp.getgrnam("disk").gr_gid))
    except KeyError:
        return frozenset((0,))


def may(writer: Writer, path: str, *, write: bool) -> bool:
    """Whether C(writer) could open the file at C(path) by that name; not where that cannot be found out. For root, who
    alone can find it out.

    A child asks: the kernel lets nobody without CAP_SYS_PTRACE, as in a container, follow C(/proc/PID/fd/N) of a
    process that has been another user for once (prctl(2), PR_SET_DUMPABLE), and so the QEMU that we start.
    """
    known = _credentials(writer)
    child = os.fork()
    if child == 0:
        _answer(known, path, os.R_OK | (os.W_OK if write else 0))
    return os.waitpid(child, 0)[1] == 0


def _answer(known: t.Tuple[int, int, t.List[int]], path: str, mode: int) -> t.NoReturn:
    """The kernel takes this process for that user from here on; its real user stays, so nobody can signal it."""
    code = 1
    try:
        uid, gid, groups = known
        os.setgroups(groups)
        os.setegid(gid)
        os.seteuid(uid)
        code = 0 if os.access(path, mode, effective_ids=True) else 1
    except (OSError, ValueError):
        pass
    finally:
        os._exit(code)


@functools.lru_cache(maxsize=None)
def _credentials(writer: Writer) -> t.Tuple[int, int, t.List[int]]:
    """User, group and further groups; whoever is in a group has no more than that."""
    if writer.uid is None:
        gid = _STRANGER if writer.gid is None else writer.gid
        return _STRANGER, gid, [gid]
    try:
        known = pwd.getpwuid(writer.uid)
    except KeyError:
        return writer.uid, _STRANGER, [_STRANGER]
    return writer.uid, known.pw_gid, os.getgrouplist(known.pw_name, known.pw_gid)
