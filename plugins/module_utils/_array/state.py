# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What is so: the array as the kernel runs it (ArrayState); and what was read beside it to decide (ArrayReading)."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._formats.md_superblock import Superblock


@dataclass(frozen=True)
class Assembled:
    """How the array runs."""

    level: str
    disks: int
    policy: str


@dataclass(frozen=True)
class ArrayState:
    """The managed part. C(members): names of the legs that are in the array, be they filled already or not.

    C(faulty): devices of the kernel that have failed and are still in it; C(pieces): an array of that UUID that was put
    together and not started.
    """

    name: str
    assembled: t.Optional[Assembled] = None
    members: t.FrozenSet[str] = frozenset()
    faulty: t.FrozenSet[str] = frozenset()
    pieces: bool = False

    def to_facts(self, link: str) -> t.Dict[str, t.Any]:
        """The state as results and diffs show it. C(link): where it is found."""
        facts: t.Dict[str, t.Any] = {"name": self.name, "state": "present" if self.assembled else "absent"}
        if self.assembled:
            facts.update(level=self.assembled.level, consistency_policy=self.assembled.policy, link=link)
            facts.update(members=sorted(self.members), faulty=sorted(self.faulty))
        return facts


@dataclass(frozen=True)
class LegReading:
    """One leg. C(there): its path leads to a block device, C(device) to the kernel; C(lost): whose server has gone.

    C(contents): what is recognised on it; None: it was not looked at. C(superblock): md's, if it is whole. C(holder): the
    device of another array that has it. C(status): in the array, as the kernel calls it; C(slot) there.
    """

    there: bool = False
    device: str = ""
    lost: bool = False
    contents: t.Optional[t.Tuple[str, ...]] = None
    superblock: t.Optional[Superblock] = None
    holder: str = ""
    status: str = ""
    slot: t.Optional[int] = None

    @property
    def is_blank(self) -> bool:
        """Nothing is recognised on it."""
        return self.there and not self.lost and self.contents == ()


@dataclass(frozen=True)
class ArrayReading:
    """Facts that decide but are not managed. C(path): of the array; C(running): what the kernel calls its state.

    C(others): devices that are in it, have not failed, and are no legs of the task. C(events): of the newest member.
    C(users): who has it, as sentences. C(program): mdadm, empty where it is not installed. C(action), C(percent): what md
    is doing with it, and how far it has come.
    """

    legs: t.Mapping[str, LegReading]
    path: str = ""
    running: str = ""
    others: t.Tuple[str, ...] = ()
    users: t.Tuple[str, ...] = ()
    program: str = ""
    action: str = "idle"
    percent: t.Optional[float] = None
    size: int = 0
