# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What the kernel says of a block device in C(/sys/block), by its name there."""

from __future__ import annotations

import os
import typing as t

_SECTOR = 512


class Part(t.NamedTuple):
    """A partition; C(start), C(size) in bytes."""

    number: int
    name: str
    start: int
    size: int


def name_of(path: str) -> str:
    """The kernel's name of the device at C(path)."""
    return os.path.basename(os.path.realpath(path))


def name_of_number(number: int) -> str:
    """The same by C(st_rdev), whatever names lead there; of a partition C(DISK/PARTITION). Empty where there is none."""
    found = os.path.realpath("/sys/dev/block/%d:%d" % (os.major(number), os.minor(number)))
    if not os.path.exists(found):
        return ""
    is_part = os.path.exists(found + "/partition")
    return "/".join(found.split("/")[-2 if is_part else -1 :])


def text(name: str, attribute: str) -> str:
    """One attribute; empty where there is none."""
    try:
        with open("/sys/block/%s/%s" % (name, attribute), "rb") as stream:
            return os.fsdecode(stream.read().rstrip(b"\n"))
    except OSError:
        return ""


def number(name: str, attribute: str) -> int:
    """One attribute that is a number; 0 where there is none."""
    found = text(name, attribute)
    return int(found) if found.isdigit() else 0


def length(name: str) -> int:
    """Bytes of the device; 0 where there is none."""
    return number(name, "size") * _SECTOR


def parts(name: str) -> t.List[Part]:
    """Its partitions as the kernel has them, by their numbers."""
    try:
        names = [each for each in os.listdir("/sys/block/" + name) if each.startswith(name)]
    except OSError:
        return []
    found = (_part(name, each) for each in names)
    return sorted(part for part in found if part.number)


def _part(disk: str, name: str) -> Part:
    values = [number(disk, "%s/%s" % (name, attribute)) for attribute in ("partition", "start", "size")]
    return Part(values[0], name, values[1] * _SECTOR, values[2] * _SECTOR)


def has_node(path: str, name: str) -> bool:
    """Whether C(path) is the device that the kernel calls C(name), a disk or a C(DISK/PARTITION)."""
    try:
        device = os.stat(path).st_rdev
    except OSError:
        return False
    return text(name, "dev") == "%d:%d" % (os.major(device), os.minor(device))


def is_ready(name: str, size: int) -> bool:
    """Whether the device is of C(size) bytes, and it and all its partitions can be opened by their names in C(/dev)."""
    nodes = [(name, name), *((part.name, "%s/%s" % (name, part.name)) for part in parts(name))]
    return length(name) == size and all(has_node("/dev/" + node, inside) for node, inside in nodes)
