# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Who uses a file or block device right now: processes, loop devices, mounts, swap, md, device mapper, QEMU's lock.

QEMU's own lock belongs to an inode and to programs that ask for it: a loop device, a second device node, C(cp) or
nbdkit are not stopped by it. So everything that can be seen from outside is looked at, in one pass for many paths.
"""

from __future__ import annotations

import errno
import os
import stat
import typing as t
from dataclasses import asdict, dataclass, field

from ansible_collections.platter.qemu.plugins.module_utils._inspect import block_use
from ansible_collections.platter.qemu.plugins.module_utils._inspect.mounts import network_filesystem, read_mounts
from ansible_collections.platter.qemu.plugins.module_utils._tools import image_lock

__all__ = ["Holder", "find_holders", "network_filesystem", "qemu_lock_state"]

_O_PATH = 0o10000000
#: Open files that are no files of a file system: looking closer is a waste.
_NO_FILES = ("socket:", "pipe:", "anon_inode:", "/dev/null", "/dev/pts/", "/memfd:")
_HOW = {True: "open for writing", False: "open for reading", None: ""}


@dataclass(frozen=True)
class Holder:
    """One user of an image. C(writes) is None where it cannot be told."""

    kind: str  # process, loop, mount, swap, md, dm, qemu_lock, kernel
    pid: int | None
    name: str
    writes: bool | None
    detail: str = ""

    def to_facts(self) -> dict[str, t.Any]:
        """As a plain dict, for a result."""
        return asdict(self)

    def __str__(self) -> str:
        who = f"{self.kind} {self.name}" if self.pid is None else f"{self.kind} {self.pid} ({self.name})"
        return ", ".join(part for part in (who, _HOW[self.writes], self.detail) if part)


@dataclass
class _Watched:
    """A path with everything whose use is a use of the path, and how each is called."""

    path: str
    target: block_use.Identity
    #: the target and what is built on it -> "" or "through /dev/loop0"
    above: dict[block_use.Identity, str] = field(default_factory=dict)
    #: a partition's disk, a loop device's file: only who writes there matters
    below: dict[block_use.Identity, str] = field(default_factory=dict)
    holders: list[Holder] = field(default_factory=list)


def find_holders(paths: t.Sequence[str]) -> dict[str, list[Holder]]:
    """Every user of each of C(paths), this process excepted. A path that does not exist has none.

    Uses through a loop device, a partition or a whole disk count. Never opens what is not a file or block device.
    """
    targets = {path: block_use.identity_of(path) for path in paths}
    loops = block_use.attached_loops()
    watched = [_watch(path, target, loops) for path, target in targets.items() if target]
    if watched:
        _add_processes(watched)
        _add_mounts_and_swap(watched)
        for each in watched:
            _add_invisible(each)
    found = {each.path: each.holders for each in watched}
    return {path: found.get(path, []) for path in paths}


def _watch(path: str, target: block_use.Identity, loops: t.Sequence[block_use.Loop]) -> _Watched:
    watched = _Watched(path, target, {target: ""}, {})
    todo = [target]
    while todo:
        for device, name, use in block_use.built_on(todo.pop(), loops):
            if use:
                watched.holders.append(Holder(use.kind, None, use.name, use.writes, use.detail))
            if device not in watched.above:
                watched.above[device] = "through " + name
                todo.append(device)
    watched.below.update((which, "through " + name) for which, name in block_use.lies_in(target, loops))
    return watched


def _add_processes(watched: t.Sequence[_Watched]) -> None:
    wanted = {which for each in watched for which in (*each.above, *each.below)}
    away = _out_of_reach(wanted)
    for pid in _other_processes():
        opened = _opened(pid, wanted, away)
        if not opened:
            continue
        name = _program(pid)
        for each in watched:
            each.holders += _as_holders(each, int(pid), name, opened)


def _as_holders(each: _Watched, pid: int, name: str, opened: t.Mapping[block_use.Identity, bool]) -> t.Iterator[Holder]:
    for which, writes in opened.items():
        if which in each.above:
            yield Holder("process", pid, name, writes, each.above[which])
        elif which in each.below and writes:
            yield Holder("process", pid, name, writes, each.below[which])


def _other_processes() -> list[str]:
    own = str(os.getpid())
    return [name for name in os.listdir("/proc") if name.isdigit() and name != own]


def _out_of_reach(wanted: set[block_use.Identity]) -> tuple[str, ...]:
    """Directories on other hosts: stat() of a file there can hang for ever, and none of ours is one of them."""
    devices = {which[0] for which in wanted}
    return tuple(each.mount_point + "/" for each in read_mounts() if each.networked and each.device not in devices)


def _opened(pid: str, wanted: set[block_use.Identity], away: tuple[str, ...]) -> dict[block_use.Identity, bool]:
    """Which of C(wanted) the process has open, and whether for writing. A process may end while we look."""
    found: dict[block_use.Identity, bool] = {}
    directory = f"/proc/{pid}/fd/"
    try:
        numbers = os.listdir(directory)
    except OSError:
        return found
    for number in numbers:
        try:
            which = _behind(directory + number, away)
            if which and which in wanted:
                _note(found, which, _flags(pid, number))
        except (OSError, ValueError):
            continue
    return found


def _behind(link: str, away: tuple[str, ...]) -> block_use.Identity | None:
    name = os.readlink(link)
    if name.startswith(_NO_FILES) or (name + "/").startswith(away):
        return None
    info = os.stat(link)
    if stat.S_ISREG(info.st_mode):  # as block_use.identity(), without a call for each of thousands
        return info.st_dev, info.st_ino
    return (-1, info.st_rdev) if stat.S_ISBLK(info.st_mode) else None


def _flags(pid: str, number: str) -> int:
    with open(f"/proc/{pid}/fdinfo/{number}", "rb") as lines:
        for line in lines:
            if line.startswith(b"flags:"):
                return int(line.split()[1], 8)
    raise ValueError("no flags in fdinfo")


def _note(found: dict[block_use.Identity, bool], which: block_use.Identity, flags: int) -> None:
    if not flags & _O_PATH:
        found[which] = found.get(which, False) or flags & os.O_ACCMODE != os.O_RDONLY


def _program(pid: str) -> str:
    """The program's name from its command line; nothing else of it, there may be secrets."""
    for source in ("cmdline", "comm"):
        try:
            with open(f"/proc/{pid}/{source}", "rb") as text:
                name = os.fsdecode(os.path.basename(text.read(4096).split(b"\0")[0]).strip())
        except OSError:
            return "?"
        if name:
            return name
    return "?"


def _add_mounts_and_swap(watched: t.Sequence[_Watched]) -> None:
    uses: dict[block_use.Identity, block_use.Use] = {}
    if any(which[0] == -1 for each in watched for which in each.above):
        uses.update(block_use.mounted(_mount_namespaces()))
    uses.update(block_use.swaps())
    for each in watched:
        for which in set(each.above) & set(uses):
            use = uses[which]
            detail = ", ".join(part for part in (use.detail, each.above[which]) if part)
            each.holders.append(Holder(use.kind, None, use.name, use.writes, detail))


def _mount_namespaces() -> t.Iterable[str]:
    """One process of every mount namespace: a container's mounts are not in our own table."""
    found: dict[str, str] = {}
    for pid in ("self", *_other_processes()):
        try:
            found.setdefault(os.readlink(f"/proc/{pid}/ns/mnt"), pid)
        except OSError:
            continue
    return found.values()


def _add_invisible(each: _Watched) -> None:
    """Users that no process of this host shows: another host's or container's QEMU, the kernel."""
    locked = qemu_lock_state(each.path)
    writes = image_lock.USES + image_lock.WRITE in locked
    nobody = not any(holder.kind == "process" for holder in each.holders)
    if locked and (nobody or (writes and not any(holder.writes for holder in each.holders))):
        numbers = " ".join(str(at) for at in sorted(locked))
        each.holders.append(Holder("qemu_lock", None, "QEMU image lock", writes, "bytes " + numbers))
    if each.target[0] == -1 and not each.holders and _claimed(each.path):
        each.holders.append(Holder("kernel", None, "exclusive open", None, "the device is claimed"))


def _claimed(device: str) -> bool:
    """Whether the kernel, or a program, has claimed the device for itself: zfs, bcache, drbd, a target, a guest."""
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_EXCL))
    except OSError as exc:
        return exc.errno == errno.EBUSY
    return False


def qemu_lock_state(path: str) -> frozenset[int]:
    """The bytes of QEMU's image lock that other processes hold, wherever they run; our own process's left out.

    Empty when idle, {100, 201, 203} for a reader, 101 and 103 as well for a writer (QEMU 7.2).
    """
    target = block_use.identity_of(path)
    if target is None:
        return frozenset()
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return frozenset()
    try:
        found = image_lock.locked_bytes(fd)
    except OSError:  # a file system without locks
        return frozenset()
    finally:
        os.close(fd)
    return found - _own_locks(target) if found else found


def _own_locks(target: block_use.Identity) -> set[int]:
    """The bytes that this process itself has locked (C(image_lock))."""
    found: set[int] = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            if block_use.identity_of("/proc/self/fd/" + number) != target:
                continue
            with open("/proc/self/fdinfo/" + number, encoding="ascii") as lines:
                found |= {int(line.split()[-2]) for line in lines if line.startswith("lock:")}
        except OSError:
            continue
    return found
