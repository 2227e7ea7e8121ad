# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The steps that take points away: their files are merged with others, or removed. As values. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from ansible_collections.platter.qemu.plugins.module_utils._core import size
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import actions, layer_actions
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import (
    Amount,
    BitmapState,
    Point,
    SnapshotState,
)


@dataclass(frozen=True)
class CommitOverlay(actions.SnapshotAction):
    """Copy what an overlay holds down into the point's file, which is no point any more; the overlay goes.

    C(merged): what is copied. C(above): images to be put onto the point's file. C(active), C(layers), C(content),
    C(points), C(bitmaps): the disk afterwards; the point that the overlay may have been is then the point's file.
    C(copied): all is in the point's file already, from a run that was killed. C(compared): nobody has noted that, but both
    show the same. C(heir): the point that the overlay is.
    """

    image: str
    point: Point
    base: str
    base_format: str
    overlay: str
    merged: Amount
    old_size: int
    virtual_size: int
    active: str
    layers: t.Tuple[str, ...]
    content: str
    points: t.Tuple[Point, ...]
    bitmaps: t.Tuple[BitmapState, ...] = ()
    above: t.Tuple[str, ...] = ()
    why: str = ""
    copied: bool = False
    compared: bool = False
    heir: t.Optional[str] = None

    @property
    def writes(self) -> t.Tuple[str, ...]:  # type: ignore[override]
        return (self.base, self.overlay, *self.above)

    @property
    def renames(self) -> bool:
        """Whether the point's file takes the overlay's name."""
        return self.active == self.overlay

    def apply(self, state: SnapshotState) -> SnapshotState:
        return replace(
            state,
            points=self.points,
            active=self.active,
            layers=self.layers,
            content=self.content,
            bitmaps=self.bitmaps,
        )

    def __str__(self) -> str:
        if self.copied:
            fact = "%s and %s show the same" if self.compared else "all of %s is in %s already"
            words = (self.point.name, self.image, self.why, fact % (self.overlay, self.base))
            return "Finish the merge of snapshot %s of %s%s: %s." % words
        grown = " (it grows to %s)" % size.human(self.virtual_size) if self.virtual_size > self.old_size else ""
        return "Merge snapshot %s of %s%s: commit %s of %s into %s%s." % (
            self.point.name,
            self.image,
            self.why,
            self.merged,
            self.overlay,
            self.base,
            grown,
        )


@dataclass(frozen=True)
class FinishMerge(actions.SnapshotAction):
    """Clear up after a commit that a killed run did not see the end of: the disk is in the base, and the overlay goes.

    C(link): whether the image's name, a symbolic link, leads to the overlay still.
    """

    image: str
    base: str
    overlay: str
    link: bool = False

    @property
    def writes(self) -> t.Tuple[str, ...]:  # type: ignore[override]
        return (self.overlay,)

    def apply(self, state: SnapshotState) -> SnapshotState:
        return replace(state, link=self.base) if self.link else state

    def __str__(self) -> str:
        return "Finish an earlier merge of %s: %s has gone into %s." % (self.image, self.overlay, self.base)


@dataclass(frozen=True)
class StreamBase(actions.SnapshotAction):
    """Copy what the point's file holds up into the overlay on it. C(keeps): why the point's file stays; else it goes.

    C(merged): what is copied. C(layers), C(content), C(points): the disk afterwards.
    """

    image: str
    point: Point
    base: str
    overlay: str
    new_base: t.Optional[str]
    new_base_format: t.Optional[str]
    merged: Amount
    layers: t.Tuple[str, ...]
    content: str
    points: t.Tuple[Point, ...]
    keeps: str = ""
    why: str = ""

    @property
    def writes(self) -> t.Tuple[str, ...]:  # type: ignore[override]
        return (self.overlay,) if self.keeps else (self.overlay, self.base)

    def apply(self, state: SnapshotState) -> SnapshotState:
        return replace(state, points=self.points, layers=self.layers, content=self.content)

    def __str__(self) -> str:
        kept = " %s stays: %s." % (self.base, self.keeps) if self.keeps else ""
        return "Merge snapshot %s of %s%s: stream %s of %s into %s.%s" % (
            self.point.name,
            self.image,
            self.why,
            self.merged,
            self.base,
            self.overlay,
            kept,
        )


@dataclass(frozen=True)
class RemoveLayer(actions.SnapshotAction):
    """Remove the file of a point that nothing is built on. C(stamp): what it was when it was looked at, if known.

    C(beside): what goes with it beside its data, in words.
    """

    image: str
    point: Point
    why: str = ""
    stamp: t.Optional[t.Tuple[int, int, int, int]] = None
    beside: str = ""

    @property
    def writes(self) -> t.Tuple[str, ...]:  # type: ignore[override]
        return (str(self.point.path),)

    def apply(self, state: SnapshotState) -> SnapshotState:
        return replace(state, points=actions.without(state, self.point.name))

    def __str__(self) -> str:
        beside = ", and with it its %s" % self.beside if self.beside else ""
        return "Remove snapshot %s of %s (%s)%s%s." % (
            self.point.name,
            self.image,
            self.point.path,
            self.why,
            beside,
        )


#: those that change which files a disk is in, or on which they are built
ON_LAYERS = (layer_actions.AddOverlay, layer_actions.RevertOverlay, CommitOverlay, StreamBase)
