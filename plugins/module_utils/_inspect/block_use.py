# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""What the kernel itself does with a file or block device: loop, partition, mount, swap, md, device mapper.

An *identity* says which thing a path is, whatever its name: C((st_dev, st_ino)) of a file, C((-1, st_rdev))
of a device.
"""

from __future__ import annotations

import os
import stat
import typing as t
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._inspect import mounts
from ansible_collections.platter.qemu.plugins.module_utils._tools import loop_device

Identity = t.Tuple[int, int]
#: bytes in which sysfs counts, whatever the blocks of a disk are
_SECTOR = 512


@dataclass(frozen=True)
class Use:
    """One way in which the kernel uses a file or device. C(kind) as in C(Holder)."""

    kind: str
    name: str
    writes: bool | None
    detail: str = ""


@dataclass(frozen=True)
class Loop:
    """An attached loop device."""

    name: str
    device: Identity
    backing: Identity
    writes: bool


def identity(info: os.stat_result) -> Identity | None:
    """Which file or block device C(info) is about; None for anything that cannot hold an image."""
    if stat.S_ISREG(info.st_mode):
        return info.st_dev, info.st_ino
    return (-1, info.st_rdev) if stat.S_ISBLK(info.st_mode) else None


def identity_of(path: str) -> Identity | None:
    """C(identity) of the file or device behind C(path); None when it cannot be reached."""
    try:
        return identity(os.stat(path))
    except (OSError, ValueError):
        return None


def known_as(names: t.Sequence[str], mentioned: t.Iterable[str]) -> dict[str, str]:
    """Which of the images C(names) each of the paths C(mentioned) is, whatever links, hard links or mounts lead there.

    One that is still to be made is known by its place. What is none of them is left out.
    """
    found = {name: name for name in names}
    others = [path for path in dict.fromkeys(mentioned) if path not in found]
    images = {identity_of(name): name for name in names} if others else {}
    for path in others:
        which = identity_of(path)
        name = images.get(which) if which else found.get(_place(path))
        if name:
            found[path] = name
    return found


def resolved(paths: t.Sequence[str], name: str) -> tuple[str, ...]:
    """C(paths) without links; what is the file C(name), by whatever name, is called so."""
    known = known_as([name], paths)
    return tuple(known.get(path) or _place(path) for path in paths)


def _place(path: str) -> str:
    try:
        return os.path.realpath(path)
    except ValueError:  # a header can say what is no name of a file
        return path


def _text(path: str) -> str:
    try:
        with open(path, "rb") as attribute:
            return os.fsdecode(attribute.read().rstrip(b"\n"))
    except OSError:
        return ""


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _sysfs(device: Identity) -> str:
    return f"/sys/dev/block/{os.major(device[1])}:{os.minor(device[1])}"


def _device_in(directory: str) -> Identity | None:
    major, _colon, minor = _text(directory + "/dev").partition(":")
    return (-1, os.makedev(int(major), int(minor))) if minor else None


def attached_loops() -> list[Loop]:
    """Every attached loop device."""
    found = (_loop(name) for name in _names("/sys/block") if os.path.exists(f"/sys/block/{name}/loop"))
    return [loop for loop in found if loop]


def _loop(name: str) -> Loop | None:
    directory = "/sys/block/" + name
    device, backing = _device_in(directory), _loop_backing(name)
    if device is None or backing is None:
        return None
    return Loop("/dev/" + name, device, backing, _text(directory + "/ro") == "0")


def _loop_backing(name: str) -> Identity | None:
    """By the device's own answer (right after a rename, and for other mounts), else by the name in sysfs."""
    if loop_device.is_served(name):
        return None
    try:
        loop = loop_device.status("/dev/" + name)
    except OSError:
        return identity_of(_text(f"/sys/block/{name}/loop/backing_file"))
    if loop is None:  # detached meanwhile
        return None
    return (-1, loop.rdevice) if loop.rdevice else (loop.device, loop.inode)


def built_on(target: Identity, loops: t.Sequence[Loop]) -> t.Iterator[tuple[Identity, str, Use | None]]:
    """What is directly built on C(target): (identity, device name, how it uses the target; None for a partition)."""
    for loop in loops:
        if loop.backing == target:
            yield loop.device, loop.name, Use("loop", loop.name, loop.writes)
    if target[0] != -1:
        return
    directory = _sysfs(target)
    for name in _names(directory):
        device = _device_in(f"{directory}/{name}") if os.path.exists(f"{directory}/{name}/partition") else None
        if device:
            yield device, "/dev/" + name, None
    for name in _names(directory + "/holders"):
        device = _device_in("/sys/block/" + name)
        if device:
            yield device, "/dev/" + name, _stacked(name)


def _stacked(name: str) -> Use:
    mapped = _text(f"/sys/block/{name}/dm/name")
    if mapped:
        return Use("dm", mapped, None, "device mapper /dev/" + name)
    kind = "md" if name.startswith("md") else name.rstrip("0123456789")
    return Use(kind, "/dev/" + name, None)


def lies_in(target: Identity, loops: t.Sequence[Loop]) -> t.Iterator[tuple[Identity, str]]:
    """What holds the bytes of C(target): a partition's disk, a loop device's file."""
    for loop in loops:
        if loop.device == target:
            yield loop.backing, _text(f"/sys/block/{os.path.basename(loop.name)}/loop/backing_file")
    directory = _sysfs(target)
    if target[0] == -1 and os.path.exists(directory + "/partition"):
        disk = os.path.dirname(os.path.realpath(directory))
        device = _device_in(disk)
        if device:
            yield device, "/dev/" + os.path.basename(disk)


def windows_of(target: Identity, loops: t.Sequence[Loop]) -> t.Iterator[tuple[Identity, int, int]]:
    """Where the bytes of C(target) lie: (a partition's disk or a loop device's file, first byte, bytes; 0 for the rest)."""
    directory = _sysfs(target)
    for which, _name in lies_in(target, loops):
        if os.path.exists(directory + "/partition"):
            yield which, _SECTOR * _number(directory + "/start"), _SECTOR * _number(directory + "/size")
        else:
            yield which, _number(directory + "/loop/offset"), _number(directory + "/loop/sizelimit")


def made_of(target: Identity) -> t.Iterator[Identity]:
    """The devices that hold the bytes of a mapped one or of an array, somewhere in them."""
    directory = _sysfs(target) + "/slaves"
    for device in (_device_in("%s/%s" % (directory, name)) for name in _names(directory)):
        if device:
            yield device


def _number(path: str) -> int:
    text = _text(path)
    return int(text) if text.isdigit() else 0


def swaps() -> dict[Identity, Use]:
    """Every file and device that is swapped on."""
    try:
        with open("/proc/swaps", "rb") as table:
            names = [mounts.unescape(line.split()[0]) for line in table.readlines()[1:]]
    except OSError:
        return {}
    found = {identity_of(name): Use("swap", name, True) for name in names}
    return {which: use for which, use in found.items() if which}


def mounted(pids: t.Iterable[str]) -> dict[Identity, Use]:
    """Every mounted block device, as seen by the processes C(pids) (one for each mount namespace)."""
    found: dict[Identity, Use] = {}
    for directory in ("/sys/fs/btrfs/" + name for name in _names("/sys/fs/btrfs")):
        for name in _names(directory + "/devices"):
            device = _device_in(f"{directory}/devices/{name}")
            if device:
                found[device] = Use("mount", os.path.basename(directory), True, "member of this btrfs")
    for pid in pids:
        for mount in mounts.read_mounts(pid):
            device = (-1, mount.device) if os.major(mount.device) else _source_device(mount.source)
            if device:
                found[device] = Use("mount", mount.mount_point, mount.writable, mount.fstype)
    return found


def _source_device(source: str) -> Identity | None:
    device = identity_of(source) if source.startswith("/dev/") else None
    return device if device and device[0] == -1 else None
