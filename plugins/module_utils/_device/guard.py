# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Looks, before anything is attached or detached, at who uses the source and the device. Read-only."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._device import actions, refuse
from ansible_collections.platter.qemu.plugins.module_utils._inspect import holders, mounts, vm_images

#: seconds in which what only looks has closed it: udev at a new device, one of us at the headers of a directory
_GLANCE_SECONDS = 3.0
_POLL_SECONDS = 0.05


def guard(items: t.Sequence[Item]) -> None:
    """Turn plans into refusals that would take a device from its users, or write to what others use."""
    for item in items:
        if _has(item, actions.DetachDevice):
            using = users_of(item.reading.paths, item.reading.backing, _GLANCE_SECONDS)
            item.refusal = refuse.busy(item.spec, item.reading, using) if using else None
    attaching = [item for item in items if _has(item, actions.AttachDevice) and not item.refusal]
    if attaching:
        _guard_each_other(items, attaching)
        images = [item for item in attaching if item.spec.address is None]
        _guard_sources([item for item in images if not item.refusal], _going(items))
        _guard_bases([item for item in images if not item.spec.read_only and not item.refusal])


def users_of(paths: t.Sequence[str], backing: str, seconds: float) -> t.List[holders.Holder]:
    """Who has the devices or anything on them. Who writes to the file behind them is no user of theirs."""
    found = _lasting(paths, lambda _path, each: each.detail != "through " + backing, seconds)
    return [each for path in paths for each in found[path]]


def _lasting(
    paths: t.Sequence[str], counts: t.Callable[[str, holders.Holder], bool], seconds: float
) -> t.Dict[str, t.List[holders.Holder]]:
    """Those holders of each path that count; a program that only reads and is done within C(seconds) does not."""
    deadline = time.monotonic() + seconds
    while True:
        every = holders.find_holders(list(paths))
        found = {path: [each for each in every[path] if counts(path, each)] for path in paths}
        using = [each for path in paths for each in found[path]]
        if not using or time.monotonic() >= deadline or not all(map(_is_a_glance, using)):
            return found
        time.sleep(_POLL_SECONDS)


def _is_a_glance(holder: holders.Holder) -> bool:
    """A mount that was undone lives on in the mount namespaces of programs that were started before (qemu-img, by our own
    C(_tools/quiet.py)), and for a moment longer as a claim of the kernel.
    """
    if holder.kind == "mount":
        return holder.name not in {mount.mount_point for mount in mounts.read_mounts()}
    return holder.kind == "kernel" or (holder.kind == "process" and holder.writes is False)


def _has(item: Item, kind: type) -> bool:
    return any(isinstance(action, kind) for action in item.plan)


def _going(items: t.Sequence[Item]) -> t.Set[t.Any]:
    """The devices, and the numbers of the servers, that will have gone when others are attached."""
    going = [item for item in items if not item.refusal]
    found: t.Set[t.Any] = set()
    for item in going:
        if _has(item, actions.DetachDevice):
            found.update(item.reading.paths)
        if _has(item, actions.DetachDevice) or _has(item, actions.EndServer):
            found.update(item.reading.servers)
    return found


def _guard_each_other(items: t.Sequence[Item], attaching: t.Sequence[Item]) -> None:
    """Two devices of one disk, one of which is written to, would not know of each other's writes."""
    users: t.Dict[str, t.List[Item]] = {}
    for item in items:
        if item.spec.state == "present" and not item.refusal:
            users.setdefault(item.reading.target, []).append(item)
    for item in attaching:
        others = [each for each in users[item.reading.target] if each is not item]
        clash = next((each for each in others if not (each.spec.read_only and item.spec.read_only)), None)
        if clash:
            fact = "%s is attached read-write, and there is device %s of it too" % (item.spec.source, clash.name)
            item.refusal = refuse.refused(item.spec, "image_in_use", fact, "Attach it once, or read-only.")


def _guard_sources(items: t.Sequence[Item], going: t.AbstractSet[t.Any]) -> None:
    of_path: t.Dict[str, t.List[Item]] = {}
    for item in items:
        of_path.setdefault(item.reading.target, []).append(item)

    def disturbs_any(path: str, holder: holders.Holder) -> bool:
        return any(_disturbs(item, holder, going) for item in of_path[path])

    found = _lasting(sorted(of_path), disturbs_any, _GLANCE_SECONDS)
    for item in items:
        using = [each for each in found[item.reading.target] if _disturbs(item, each, going)]
        if using:
            item.refusal = refuse.in_use(item.spec, using)


def _disturbs(item: Item, holder: holders.Holder, going: t.AbstractSet[t.Any]) -> bool:
    """Readers do not disturb a reader. The lock that a device of ours holds has no process, and goes with it."""
    own = {*item.reading.paths, *item.reading.servers}
    if holder.name in going or holder.pid in going or (holder.kind == "qemu_lock" and own & going):
        return False
    return not item.spec.read_only or holder.writes is not False


def _guard_bases(items: t.Sequence[Item]) -> None:
    found, claims = vm_images.built_on(items)
    for item in (each for each in items if not each.refusal):
        overlays, below = found[item.reading.target], claims.below(item.reading.target, ())
        if overlays:
            item.refusal = refuse.has_overlays(item.spec, overlays)
        elif below:
            based = vm_images.based(item.spec.source, below, "; or set read_only: true")
            item.refusal = refuse.refused(item.spec, *based)
