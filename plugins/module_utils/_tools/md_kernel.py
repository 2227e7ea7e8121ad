# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What the kernel says of arrays in C(/sys/block/mdN/md) (Documentation/admin-guide/md.rst)."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._tools import block_device


class Member(t.NamedTuple):
    """C(device): the kernel's name; C(states): its words, C(in_sync), C(faulty), C(spare) and others; C(slot) or None."""

    device: str
    states: t.FrozenSet[str]
    slot: t.Optional[int]


def arrays() -> t.List[str]:
    """The kernel's names of all arrays that have something in them."""
    names = [name for name in sorted(os.listdir("/sys/block")) if name.startswith("md")]
    return [name for name in names if text(name, "array_state") not in ("", "clear")]


def text(name: str, attribute: str) -> str:
    """One attribute; empty where there is none."""
    return block_device.text(name, "md/" + attribute)


def members(name: str) -> t.List[Member]:
    """The legs of an array."""
    try:
        entries = [entry for entry in os.listdir("/sys/block/%s/md" % name) if entry.startswith("dev-")]
    except OSError:
        return []
    return [_member(name, entry) for entry in sorted(entries)]


def _member(name: str, entry: str) -> Member:
    slot = text(name, entry + "/slot")
    states = frozenset(text(name, entry + "/state").split(","))
    return Member(entry[len("dev-") :], states, int(slot) if slot.isdigit() else None)


def holders(device: str) -> t.List[str]:
    """The arrays that have a device, by the kernel's names."""
    try:
        return [name for name in sorted(os.listdir("/sys/block/%s/holders" % device)) if name.startswith("md")]
    except OSError:
        return []


def progress(name: str) -> t.Optional[float]:
    """Percent of what md is doing with the array; None while it does nothing."""
    done, _slash, total = text(name, "sync_completed").partition(" / ")
    if not (done.isdigit() and total.isdigit() and int(total)):
        return None
    return round(100.0 * int(done) / int(total), 1)
