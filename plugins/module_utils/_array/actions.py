# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The steps that a plan for an array is made of."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from ansible_collections.platter.qemu.plugins.module_utils._array.state import ArrayState, Assembled
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import Action


@dataclass(frozen=True)
class StopArray(Action[ArrayState]):
    """Have the kernel let the array go. What is on its legs stays."""

    name: str

    def apply(self, state: ArrayState) -> ArrayState:
        return ArrayState(state.name)

    def __str__(self) -> str:
        return "Stop array %s." % self.name


@dataclass(frozen=True)
class CreateArray(Action[ArrayState]):
    """Make a new array of blank legs, and start it."""

    name: str
    wanted: Assembled
    legs: t.Tuple[str, ...]

    def apply(self, state: ArrayState) -> ArrayState:
        return replace(state, assembled=self.wanted, members=frozenset(self.legs), pieces=False)

    def __str__(self) -> str:
        return "Make array %s (%s, %s) of %s." % (self.name, self.wanted.level, self.wanted.policy, _listed(self.legs))


@dataclass(frozen=True)
class AssembleArray(Action[ArrayState]):
    """Start an array that is there, of the legs that have all its data. C(found): what they say that it is."""

    name: str
    found: Assembled
    legs: t.Tuple[str, ...]

    def apply(self, state: ArrayState) -> ArrayState:
        return replace(state, assembled=self.found, members=frozenset(self.legs), pieces=False)

    def __str__(self) -> str:
        short = "" if len(self.legs) == self.found.disks else ", degraded"
        return "Start array %s (%s) of %s%s." % (self.name, self.found.level, _listed(self.legs), short)


@dataclass(frozen=True)
class RemoveFaulty(Action[ArrayState]):
    """Take devices that have failed out of the array, so that they can come back."""

    name: str
    devices: t.Tuple[str, ...]

    def apply(self, state: ArrayState) -> ArrayState:
        return replace(state, faulty=frozenset())

    def __str__(self) -> str:
        return "Take %s, which failed, out of array %s." % (_listed(self.devices), self.name)


@dataclass(frozen=True)
class DropLeg(Action[ArrayState]):
    """Take a leg out whose server has gone, which md has not noticed yet."""

    name: str
    leg: str

    def apply(self, state: ArrayState) -> ArrayState:
        return replace(state, members=state.members - {self.leg})

    def __str__(self) -> str:
        return "Take leg %s, whose server has gone, out of array %s." % (self.leg, self.name)


@dataclass(frozen=True)
class ReAddLeg(Action[ArrayState]):
    """Have a leg of the array back, which gets what was written without it."""

    name: str
    leg: str

    def apply(self, state: ArrayState) -> ArrayState:
        return replace(state, members=state.members | {self.leg})

    def __str__(self) -> str:
        return "Add leg %s to array %s again." % (self.leg, self.name)


@dataclass(frozen=True)
class FillLeg(Action[ArrayState]):
    """Fill a blank leg with what the array holds."""

    name: str
    leg: str

    def apply(self, state: ArrayState) -> ArrayState:
        return replace(state, members=state.members | {self.leg})

    def __str__(self) -> str:
        return "Fill blank leg %s from array %s." % (self.leg, self.name)


def _listed(names: t.Sequence[str]) -> str:
    return names[0] if len(names) == 1 else "%s and %s" % (", ".join(names[:-1]), names[-1])
