# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The steps that change an image's internal snapshots and bitmaps, as values. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from ansible_collections.platter.qemu.plugins.module_utils._core import plan
from ansible_collections.platter.qemu.plugins.module_utils._core.size import human
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import BitmapState, Point, SnapshotState


class SnapshotAction(plan.Action[SnapshotState]):
    """A step on one image. C(writes): the files that it writes to, removes or renames; C(makes): the names that it gives."""

    writes: t.Tuple[str, ...] = ()
    makes: t.Tuple[str, ...] = ()


def without(state: SnapshotState, name: str) -> t.Tuple[Point, ...]:
    """The points but the one of that name."""
    return tuple(point for point in state.points if point.name != name)


# --- internal


@dataclass(frozen=True)
class TakeSnapshot(SnapshotAction):
    """Keep what the image holds now, in itself. C(why): what for, of one that the task did not ask for by name."""

    path: str
    point: Point
    memory: bool = False
    why: str = ""

    @property
    def writes(self) -> t.Tuple[str, ...]:  # type: ignore[override]
        return (self.path,)

    def apply(self, state: SnapshotState) -> SnapshotState:
        return replace(state, points=(*state.points, self.point))

    def __str__(self) -> str:
        memory = " with the VM's memory" if self.memory else ""
        return "Take snapshot %s of %s%s%s." % (self.point.name, self.path, memory, self.why)


@dataclass(frozen=True)
class DeleteSnapshot(SnapshotAction):
    """Delete an internal snapshot. C(why): the rule that it goes by, of a pruned one."""

    path: str
    point: Point
    why: str = ""

    @property
    def writes(self) -> t.Tuple[str, ...]:  # type: ignore[override]
        return (self.path,)

    def apply(self, state: SnapshotState) -> SnapshotState:
        return replace(state, points=without(state, self.point.name))

    def __str__(self) -> str:
        return "Delete snapshot %s (ID %s) of %s%s." % (self.point.name, self.point.id, self.path, self.why)


@dataclass(frozen=True)
class RevertImage(SnapshotAction):
    """Make the image hold what an internal snapshot holds."""

    path: str
    point: Point
    old_size: int
    memory: bool = False

    @property
    def writes(self) -> t.Tuple[str, ...]:  # type: ignore[override]
        return (self.path,)

    def apply(self, state: SnapshotState) -> SnapshotState:
        return replace(state, content=self.point.content, virtual_size=self.point.virtual_size)

    def __str__(self) -> str:
        size = ""
        if self.point.virtual_size != self.old_size:
            size = ", from %s to %s" % (human(self.old_size), human(self.point.virtual_size))
        memory = " with the VM's memory" if self.memory else ""
        return "Revert %s to snapshot %s%s%s." % (self.path, self.point.name, memory, size)


# --- bitmaps


@dataclass(frozen=True)
class AddBitmap(SnapshotAction):
    """Add a bitmap, merged from others where the task says so."""

    path: str
    bitmap: BitmapState
    granularity: t.Optional[int]
    sources: t.Tuple[str, ...] = ()

    @property
    def writes(self) -> t.Tuple[str, ...]:  # type: ignore[override]
        return (self.path,)

    def apply(self, state: SnapshotState) -> SnapshotState:
        return replace(state, bitmaps=tuple(sorted((*state.bitmaps, self.bitmap), key=lambda each: each.name)))

    def __str__(self) -> str:
        merged = ", merged from %s" % ", ".join(self.sources) if self.sources else ""
        return "Add bitmap %s to %s%s." % (self.bitmap.name, self.path, merged)


@dataclass(frozen=True)
class RemoveBitmap(SnapshotAction):
    """Remove a bitmap."""

    path: str
    name: str

    @property
    def writes(self) -> t.Tuple[str, ...]:  # type: ignore[override]
        return (self.path,)

    def apply(self, state: SnapshotState) -> SnapshotState:
        return replace(state, bitmaps=tuple(each for each in state.bitmaps if each.name != self.name))

    def __str__(self) -> str:
        return "Remove bitmap %s of %s." % (self.name, self.path)


@dataclass(frozen=True)
class SwitchBitmap(SnapshotAction):
    """Let a bitmap record writes, or not."""

    path: str
    name: str
    enabled: bool

    @property
    def writes(self) -> t.Tuple[str, ...]:  # type: ignore[override]
        return (self.path,)

    def apply(self, state: SnapshotState) -> SnapshotState:
        switched = (replace(b, enabled=self.enabled) if b.name == self.name else b for b in state.bitmaps)
        return replace(state, bitmaps=tuple(switched))

    def __str__(self) -> str:
        return "%s bitmap %s of %s." % ("Enable" if self.enabled else "Disable", self.name, self.path)


#: what changes the image in its own file; of one that a running QEMU has open, through that
BY_QEMU = (TakeSnapshot, DeleteSnapshot, RevertImage, AddBitmap, RemoveBitmap, SwitchBitmap)
