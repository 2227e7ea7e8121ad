# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Which legs of an array hold the same data, and which of them it can do without. Pure.

Fact: md(4), RAID10: the near layout with two copies, mdadm's default, puts both on neighbouring slots.
"""

from __future__ import annotations

import typing as t


def partners(level: str, disks: int) -> t.List[t.Tuple[int, int]]:
    """Pairs of slots that must not be lost together."""
    if level == "raid10":
        step = 2 if disks % 2 == 0 else 1
        return [(slot, (slot + 1) % disks) for slot in range(0, disks, step)]
    return [(one, other) for one in range(disks) for other in range(one + 1, disks)]


def is_enough(level: str, disks: int, slots: t.AbstractSet[int]) -> bool:
    """Whether an array has all its data with the legs in these slots alone."""
    if level == "raid1":
        return bool(slots)
    return all(one in slots or other in slots for one, other in partners(level, disks))
