# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Reads what is so of an array: from the kernel, and what md has written on the legs. Read-only."""

from __future__ import annotations

import os
import stat
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._array.spec import ArraySpec, Leg
from ansible_collections.platter.qemu.plugins.module_utils._array.state import (
    ArrayReading,
    ArrayState,
    Assembled,
    LegReading,
)
from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._formats import md_superblock
from ansible_collections.platter.qemu.plugins.module_utils._inspect import identity, signatures
from ansible_collections.platter.qemu.plugins.module_utils._tools import (
    block_device,
    direct_reader,
    md_kernel,
    nbd_kernel,
)

#: of an array that was put together and not started
_PIECES = "inactive"


def observe(spec: ArraySpec, program: str) -> t.Tuple[ArrayState, ArrayReading]:
    """The state and the reading of one array. C(program): mdadm."""
    name = find(spec)
    members = {each.device: each for each in md_kernel.members(name)} if name else {}
    missing = LegReading()
    legs = {leg.name: missing if leg.name in spec.left_out else _leg(spec, leg, name, members) for leg in spec.legs}
    running = md_kernel.text(name, "array_state") if name else ""
    reading = ArrayReading(
        legs=legs,
        path="/dev/" + name if name else "",
        running=running,
        others=tuple(_others(members, legs)),
        users=tuple(_users(name)) if name and spec.state == "absent" else (),
        program=program,
        action=md_kernel.text(name, "sync_action") if name else "",
        percent=md_kernel.progress(name) if name else None,
        size=block_device.length(name) if name else 0,
    )
    return _state(spec, name, running, members, legs), reading


def is_well(spec: ArraySpec) -> bool:
    """Whether the array runs with all its legs, and md has nothing to do with it, by what the kernel says alone: no leg is
    asked anything.
    """
    name = find(spec)
    members = md_kernel.members(name) if name else []
    there = [each for each in members if "in_sync" in each.states and not nbd_kernel.is_lost(each.device)]
    full = len(there) == len(members) == len(spec.legs)
    idle = full and md_kernel.text(name, "sync_action") == "idle"
    return idle and md_kernel.text(name, "array_state") not in ("broken", _PIECES)


def _state(
    spec: ArraySpec,
    name: str,
    running: str,
    members: t.Mapping[str, md_kernel.Member],
    legs: t.Mapping[str, LegReading],
) -> ArrayState:
    if not name:
        return ArrayState(spec.name)
    if running == _PIECES:
        return ArrayState(spec.name, pieces=True)
    policy = md_kernel.text(name, "consistency_policy")
    disks = block_device.number(name, "md/raid_disks")
    return ArrayState(
        spec.name,
        Assembled(md_kernel.text(name, "level"), disks, policy),
        frozenset(leg for leg, seen in legs.items() if seen.status and seen.status != "faulty"),
        frozenset(device for device, member in members.items() if "faulty" in member.states),
    )


def find(spec: ArraySpec) -> str:
    """The kernel's name of the array; empty where it does not run."""
    return next((name for name in md_kernel.arrays() if _uuid(name) == spec.uuid), "")


def _uuid(name: str) -> str:
    """By the kernel (since Linux 5.15 or so), else by a leg of it that can be read."""
    told = md_kernel.text(name, "uuid")
    if told:
        return told.lower()
    for member in md_kernel.members(name):
        if "in_sync" in member.states and not nbd_kernel.is_lost(member.device):
            superblock = _superblock("/dev/" + member.device)
            if superblock:
                return superblock.uuid
    return ""


def _leg(spec: ArraySpec, leg: Leg, array: str, members: t.Mapping[str, md_kernel.Member]) -> LegReading:
    try:
        is_device = stat.S_ISBLK(os.stat(leg.device).st_mode)
    except OSError:
        is_device = False
    device = block_device.name_of(leg.device) if is_device else ""
    if not device:
        return LegReading()
    member = members.get(device)
    status = _status(member) if member else ""
    lost = nbd_kernel.is_lost(device) or not _length(device)
    holder = next((each for each in md_kernel.holders(device) if each != array), "")
    seen = LegReading(True, device, lost, None, None, holder, status, member.slot if member else None)
    if lost or status == "faulty":
        return seen
    try:
        contents, superblock = ((), _superblock(leg.device)) if status else _read(spec, leg)
    except errors.EngineError:  # the kernel's NBD has given it up: nobody reads it any more
        return replace(seen, lost=True)
    return replace(seen, contents=contents, superblock=superblock)


def _length(device: str) -> int:
    """Bytes of a disk or a partition."""
    try:
        with open("/sys/class/block/%s/size" % device, "rb") as stream:
            return int(stream.read())
    except (OSError, ValueError):
        return 0


def _superblock(path: str) -> t.Optional[md_superblock.Superblock]:
    with direct_reader.DirectReader(path) as reader:
        return md_superblock.read_superblock(reader)


def _read(spec: ArraySpec, leg: Leg) -> t.Tuple[t.Tuple[str, ...], t.Optional[md_superblock.Superblock]]:
    """What is on a leg, and what md has written there. Samples tell data that nobody knows, where it would be written over."""
    with direct_reader.DirectReader(leg.device) as reader:
        known, formats = identity.contents_of(reader)
        found = [*map(str, known), *(name for name in formats if name not in ("raw", "luks"))]
        if not found and _may_be_written_over(spec, leg) and signatures.has_data(reader):
            found = ["data of an unknown kind"]
        return tuple(found), md_superblock.read_superblock(reader)


def _may_be_written_over(spec: ArraySpec, leg: Leg) -> bool:
    return spec.state == "present" and (spec.may_be_new or leg.name in spec.fill)


def _status(member: md_kernel.Member) -> str:
    """One word of those of the kernel."""
    for word in ("faulty", "in_sync"):
        if word in member.states:
            return word
    return "recovering" if member.slot is not None else "spare"


def _others(members: t.Mapping[str, md_kernel.Member], legs: t.Mapping[str, LegReading]) -> t.Iterator[str]:
    """Members that have not failed, and are no legs of the task."""
    known = {each.device for each in legs.values()}
    return ("/dev/" + name for name, each in members.items() if "faulty" not in each.states and name not in known)


def _users(name: str) -> t.List[str]:
    from ansible_collections.platter.qemu.plugins.module_utils._inspect import holders, waiting

    path = "/dev/" + name
    return [str(each) for each in waiting.lasting(lambda: holders.find_holders([path]))[path]]
