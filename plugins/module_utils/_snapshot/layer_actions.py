# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The steps that change the layers of an image, which are files: its external snapshots. As values. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from ansible_collections.platter.qemu.plugins.module_utils._snapshot import actions
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import (
    Point,
    SnapshotState,
)


@dataclass(frozen=True)
class AddOverlay(actions.SnapshotAction):
    """Freeze the active file as a point, and put an empty overlay on it.

    C(active): the file until now; C(point.path): what it is called then; C(overlay): the new active file.
    """

    image: str
    point: Point
    format: str
    active: str
    overlay: str
    layers: t.Tuple[str, ...]
    relative: bool = False

    @property
    def writes(self) -> t.Tuple[str, ...]:  # type: ignore[override]
        return (self.active,) if self.renames else ()

    @property
    def makes(self) -> t.Tuple[str, ...]:  # type: ignore[override]
        return (str(self.point.path), self.overlay)

    @property
    def renames(self) -> bool:
        """Whether the file gives its name to the overlay."""
        return self.active == self.overlay

    def apply(self, state: SnapshotState) -> SnapshotState:
        return replace(
            state,
            active=self.overlay,
            content=self.point.content,
            points=(*state.points, self.point),
            layers=self.layers,
            bitmaps=(),
        )

    def __str__(self) -> str:
        words = (self.point.path, self.point.name, self.image, self.overlay)
        return "Keep %s as snapshot %s of %s; what is written from now on goes to %s." % words


@dataclass(frozen=True)
class RevertOverlay(actions.SnapshotAction):
    """Put a new, empty overlay on a point's file, under the name of the active one.

    C(saved): the point that the layer that is left becomes; None: it goes.
    """

    image: str
    point: Point
    format: str
    active: str
    layers: t.Tuple[str, ...]
    saved: t.Optional[Point] = None

    @property
    def writes(self) -> t.Tuple[str, ...]:  # type: ignore[override]
        return (self.active,)

    @property
    def makes(self) -> t.Tuple[str, ...]:  # type: ignore[override]
        return (str(self.saved.path),) if self.saved else ()

    def apply(self, state: SnapshotState) -> SnapshotState:
        return replace(
            state,
            content=self.point.content,
            virtual_size=self.point.virtual_size,
            points=(*state.points, self.saved) if self.saved else state.points,
            layers=self.layers,
            bitmaps=(),
        )

    def __str__(self) -> str:
        kept = " What was written since is kept as %s (%s)." % (self.saved.name, self.saved.path) if self.saved else ""
        return "Revert %s to snapshot %s (%s).%s" % (self.image, self.point.name, self.point.path, kept)


@dataclass(frozen=True)
class SwitchLink(actions.SnapshotAction):
    """Lead the image's name, a symbolic link, to the active file."""

    image: str
    target: str

    def apply(self, state: SnapshotState) -> SnapshotState:
        return replace(state, link=self.target)

    def __str__(self) -> str:
        return "Lead %s to %s." % (self.image, self.target)


@dataclass(frozen=True)
class RemoveUnused(actions.SnapshotAction):
    """Remove an empty overlay that a killed run has made on the active layer, before the VM was switched to it.

    C(stamp): what it was when it was looked at. C(linked): whether the image's name, a symbolic link, leads to it.
    """

    image: str
    active: str
    overlay: str
    stamp: t.Optional[t.Tuple[int, int, int, int]] = None
    linked: bool = False

    @property
    def writes(self) -> t.Tuple[str, ...]:  # type: ignore[override]
        return (self.overlay,)

    def apply(self, state: SnapshotState) -> SnapshotState:
        return replace(state, link=self.active) if self.linked else state

    def __str__(self) -> str:
        return "Remove %s, an overlay on %s that a killed run has left and nobody has used." % (
            self.overlay,
            self.active,
        )


@dataclass(frozen=True)
class AcceptPoint(actions.SnapshotAction):
    """Take what a point's file holds now as the point, though others have written to it, or a killed run did not note it."""

    image: str
    point: Point

    def apply(self, state: SnapshotState) -> SnapshotState:
        accepted = (replace(each, altered=False) if each.name == self.point.name else each for each in state.points)
        return replace(state, points=tuple(accepted))

    def __str__(self) -> str:
        why = "though others have written to it" if self.point.altered else "as a run was killed before it noted that"
        return "Take what %s holds now as snapshot %s of %s, %s." % (self.point.path, self.point.name, self.image, why)
