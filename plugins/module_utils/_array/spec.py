# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a task asks of one array of legs."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass


class Leg(t.NamedTuple):
    """One disk of the array. C(device): its path; C(server): what it shares its fate with; empty: not known."""

    name: str
    device: str
    server: str = ""


@dataclass(frozen=True)
class ArraySpec:
    """One array. C(policy): how it becomes consistent after a crash, C(bitmap) or C(ppl).

    C(start_degraded): it may be started although a leg is missing that could be newer. C(fill): names of legs that may
    be blank in an array that is there: they are filled. C(left_out): legs that count as missing, whatever is there.
    C(may_be_new): blank legs become an array. C(timeout): seconds for each step of mdadm.
    """

    name: str
    uuid: str
    state: str = "present"
    level: str = "raid1"
    legs: t.Tuple[Leg, ...] = ()
    policy: str = "bitmap"
    start_degraded: bool = False
    fill: t.Tuple[str, ...] = ()
    left_out: t.Tuple[str, ...] = ()
    may_be_new: bool = True
    timeout: float = 60.0

    @property
    def link(self) -> str:
        """Where it is found, as mdadm and udev name arrays."""
        return "/dev/md/" + self.name
