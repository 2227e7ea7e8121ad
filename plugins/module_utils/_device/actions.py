# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The steps that a plan for a device is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ansible_collections.platter.qemu.plugins.module_utils._core import size
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import Action
from ansible_collections.platter.qemu.plugins.module_utils._device.state import Attached, DeviceState


@dataclass(frozen=True)
class DetachDevice(Action[DeviceState]):
    """Take the link away, and have the kernel let the disk go. C(why): what it would not have in common with the task."""

    name: str
    source: str
    why: str = ""

    def apply(self, state: DeviceState) -> DeviceState:
        return replace(state, attached=None, linked=False)

    def __str__(self) -> str:
        return "Detach device %s (%s)%s." % (self.name, self.source, ", as " + self.why if self.why else "")


@dataclass(frozen=True)
class AttachDevice(Action[DeviceState]):
    """Have the kernel make a block device of the disk, and wait for its length and partitions."""

    name: str
    wanted: Attached

    def apply(self, state: DeviceState) -> DeviceState:
        return replace(state, attached=self.wanted)

    def __str__(self) -> str:
        wanted = self.wanted
        how = "read-only" if wanted.read_only else "read-write"
        where = "%s of it from byte %d on" % (size.human(wanted.length), wanted.offset) if wanted.offset else ""
        where = where or size.human(wanted.length)
        by = ", by the kernel's NBD" if wanted.kind == "nbd" else ""
        by = ", by a server of QEMU and FUSE" if wanted.kind == "fuse" else by
        return "Attach %s (%s), %s, as device %s, %s%s." % (wanted.source, wanted.format, where, self.name, how, by)


@dataclass(frozen=True)
class TakeLength(Action[DeviceState]):
    """Have the device be as long as its file is now; who has it open sees it grow."""

    name: str
    length: int

    def apply(self, state: DeviceState) -> DeviceState:
        return replace(state, attached=state.attached and replace(state.attached, length=self.length))

    def __str__(self) -> str:
        return "Have device %s be %s long, as its file is." % (self.name, size.human(self.length))


@dataclass(frozen=True)
class LinkDevice(Action[DeviceState]):
    """Have the link of its name lead to the device."""

    name: str
    link: str

    def apply(self, state: DeviceState) -> DeviceState:
        return replace(state, linked=True)

    def __str__(self) -> str:
        return "Have %s lead to it." % self.link


@dataclass(frozen=True)
class RemoveLink(Action[DeviceState]):
    """Take away a link that leads to no device of ours."""

    name: str
    link: str

    def apply(self, state: DeviceState) -> DeviceState:
        return replace(state, linked=False)

    def __str__(self) -> str:
        return "Remove %s." % self.link


@dataclass(frozen=True)
class EndServer(Action[DeviceState]):
    """End what a killed run has left: a server with no device."""

    name: str

    def apply(self, state: DeviceState) -> DeviceState:
        return replace(state, left=False)

    def __str__(self) -> str:
        return "End the server that was left of device %s." % self.name
