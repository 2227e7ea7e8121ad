# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The steps that take points out of an external image: two neighbouring layers become one. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import replace
from posixpath import dirname

from ansible_collections.platter.qemu.plugins.module_utils._snapshot import (
    actions,
    committable,
    family,
    merge_actions,
    plan_switch,
    plan_unfinished,
    refuse,
)
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import (
    Point,
    SnapshotReading,
    SnapshotState,
)

Plan = t.List[actions.SnapshotAction]


def remove_points(
    spec: SnapshotSpec, state: SnapshotState, reading: SnapshotReading, points: t.Sequence[Point], why: str = ""
) -> Plan:
    """The steps that take C(points) out, one after the other, each on what the ones before it leave. RefusedError."""
    removal = _Removal(spec, state, reading, why)
    order = sorted(points, key=lambda point: (not point.merging, bool(reading.layers[str(point.path)].children)))
    return [removal.step(point.name) for point in order]


class _Removal:
    """Takes points out of a family, which is each time as the step before left it."""

    def __init__(self, spec: SnapshotSpec, state: SnapshotState, reading: SnapshotReading, why: str) -> None:
        self._spec = spec
        self._state = state
        self._reading = reading
        self._layers = dict(reading.layers)
        self._active = state.active
        self._points = state.points
        self._why = why
        self._named = "" if spec.switch == "symlink" and state.link else reading.named
        #: the files that steps before have written to
        self._rewritten: t.Set[str] = set()
        #: the files that a running QEMU has open, if there is one
        self._open: t.Set[str] = set(reading.live.nodes) if reading.live else set()

    def step(self, name: str) -> actions.SnapshotAction:
        """The step that takes the point of that name out."""
        point = next(each for each in self._points if each.name == name)
        path = t.cast(str, point.path)
        children = self._layers[path].children
        refuse.refuse_altered(self._spec, self._layers[path])
        plan_unfinished.refuse_half_merged(self._spec, self._layers, [path], path)
        if not children:
            if path in self._open:
                raise refuse.chain_differs(self._spec, path)
            plan_unfinished.refuse_half_streamed(self._spec, self._layers, [path])
            layer = self._layers[path]
            self._layers = family.removed(self._layers, path)
            self._points = tuple(each for each in self._points if each != point)
            stamp = None if path in self._rewritten else layer.stamp
            return merge_actions.RemoveLayer(self._spec.image, point, self._why, stamp, layer.beside)
        child = self._layers[path].merging or family.child_towards(self._layers, path, self._active)
        if child is None or not family.is_ours(self._layers, child, self._active):
            raise self._has_overlays(path, children)
        refuse.refuse_altered(self._spec, self._layers[child])
        plan_unfinished.refuse_half_merged(self._spec, self._layers, [child], path)
        if child in self._open or not self._layers[path].copied:  # else a job of a killed run has taken it out
            refuse.refuse_other_chain(self._spec, self._open, child, path)
        if self._commits(point, path, child):
            return self._commit(point, path, child)
        return self._stream(point, path, child)

    def _points_after(self, gone: Point, moved: t.Mapping[str, str]) -> t.Tuple[Point, ...]:
        """The other points as they are then; C(moved): old path -> new path."""
        found = []
        for point in self._points:
            if point.name != gone.name:
                path = moved.get(t.cast(str, point.path), t.cast(str, point.path))
                content = family.content_of(self._layers, path)
                found.append(replace(point, path=path, content=content, altered=self._layers[path].altered))
        return tuple(found)

    def _commits(self, point: Point, path: str, child: str) -> bool:
        """Down where nothing else is built on the point's file, and the file is not larger than the disk."""
        if (
            point.merging
        ):  # it was begun; what of ours is built on the point's file beside the overlay was put there by it
            if not self._layers[path].copied:
                self._refuse_foreign(path)
            return True
        if self._spec.state == "streamed":
            return False
        only = self._layers[path].children == (child,)
        fits = self._layers[path].virtual_size <= self._layers[child].virtual_size
        obstacle = committable.obstacle(self._layers[path], self._layers[child].virtual_size)
        if self._spec.state != "committed":
            return only and fits and not obstacle and not self._would_move(path, child)
        if not only:
            raise self._has_overlays(path, [each for each in self._layers[path].children if each != child])
        if not fits:
            raise refuse.refused(
                self._spec,
                "would_grow",
                "%s is larger than the disk on it, which would grow by the merge" % path,
                "Set state to streamed.",
            )
        if obstacle:
            raise refuse.cannot_commit(self._spec, path, *obstacle)
        return True

    def _would_move(self, path: str, child: str) -> bool:
        """Whether a commit would give the file a name in another directory."""
        renamed = child == self._active and self._spec.switch == "rename"
        return renamed and dirname(path) != dirname(child)

    def _refuse_foreign(self, path: str) -> None:
        foreign = [each for each in self._layers[path].children if not family.is_ours(self._layers, each, self._active)]
        if foreign:
            raise self._has_overlays(path, foreign)

    def _has_overlays(self, path: str, others: t.Sequence[str]) -> Exception:
        return refuse.refused(
            self._spec,
            "has_overlays",
            "other images are built on %s: %s" % (path, ", ".join(list(others)[:5])),
            "Remove, rebase or flatten those first"
            + ("; or set state to streamed." if self._spec.state == "committed" else "."),
            {"overlays": list(others)},
        )

    def _refuse_live_branch(self, child: str) -> None:
        """Of what is built on the file that a VM writes to, QEMU puts nothing onto the file below."""
        if self._reading.live is not None and child == self._state.active and self._layers[child].children:
            raise self._has_overlays(child, self._layers[child].children)

    def _refuse_other_format(self, low: t.Any) -> None:
        """The disk would be in a file of another format, under the name for which the task has one."""
        if self._spec.format not in (None, low.format):
            raise refuse.refused(
                self._spec,
                "format_mismatch",
                "its disk would be %s, which is %s" % (low.path, low.format),
                "Set format to %s, and tell the VM." % low.format,
                {"asked": self._spec.format, "found": [low.format]},
            )

    # --- down

    def _commit(self, point: Point, path: str, child: str) -> merge_actions.CommitOverlay:
        low, top = self._layers[path], self._layers[child]
        refuse.refuse_hardlinked(self._spec, top)
        refuse.refuse_loss(self._spec, top)
        self._refuse_foreign(child)
        self._refuse_live_branch(child)
        of_now = child == self._active
        self._active, renamed = self._after_commit(path, child)
        self._refuse_to_lose_name(*((path, child) if renamed else (child, path)))
        if of_now:
            self._refuse_other_format(low)
        plan_unfinished.refuse_half_streamed(self._spec, self._layers, (path, child) if renamed else (child,))
        self._layers = family.committed(self._layers, path, child, renamed)
        self._rewritten.update(top.children)
        self._open.discard(child)
        self._points = self._points_after(point, {child: renamed or path})
        return merge_actions.CommitOverlay(
            image=self._spec.image,
            point=point,
            base=path,
            base_format=low.format,
            overlay=child,
            merged=top.data,
            old_size=low.virtual_size,
            virtual_size=top.virtual_size,
            active=self._active,
            layers=family.layers_up(self._layers, self._active),
            content=family.content_of(self._layers, self._active),
            points=self._points,
            bitmaps=self._layers[self._active].bitmaps,
            above=top.children,
            why=self._why,
            copied=low.copied,
            compared=low.copied and low.told and not low.merged,
            heir=top.point,
        )

    def _after_commit(self, path: str, child: str) -> t.Tuple[str, t.Optional[str]]:
        """(the active file afterwards, the new name of the point's file if it takes the overlay's)"""
        if child != self._active:
            return self._active, None
        plan_switch.refuse_switch(self._spec, self._state, self._reading)
        if self._reading.live is not None:
            refuse.refuse_to_leave(self._spec, self._reading, child)
        if self._would_move(path, child):
            raise refuse.refused(
                self._spec,
                "directory_differs",
                "with switch=rename %s would get the name %s, in another directory, where names relative to its own lead "
                "elsewhere" % (path, child),
                "Set state to streamed.",
                {"path": path, "active": child},
            )
        # a name that a running QEMU was leaving is nobody's
        renames = self._spec.switch == "rename" and not child.endswith(family.LEAVING)
        return (child, child) if renames else (path, None)

    # --- up

    def _stream(self, point: Point, path: str, child: str) -> merge_actions.StreamBase:
        low = self._layers[path]
        if child in self._open and low.base is not None:
            refuse.refuse_other_chain(self._spec, self._open, child, low.base)
        others = [each for each in low.children if each != child]
        plan_unfinished.refuse_beside_half_streamed(self._spec, self._layers, others)
        self._refuse_to_lose_points(path, others)
        refuse.refuse_cut_snapshots(self._spec, self._layers[child], path)
        keeps = "other images are built on it (%s)" % ", ".join(others[:5]) if others else ""
        if not keeps:
            plan_unfinished.refuse_half_streamed(self._spec, self._layers, [path])
            refuse.refuse_loss(self._spec, low)
        elif low.base is not None:  # which gets another child than those of ours
            plan_unfinished.refuse_half_merged(self._spec, self._layers, [low.base])
        self._refuse_to_lose_name(path, child)
        self._layers = family.streamed(self._layers, path, child, bool(keeps))
        self._open.discard(path)
        self._points = self._points_after(point, {})
        return merge_actions.StreamBase(
            image=self._spec.image,
            point=point,
            base=path,
            overlay=child,
            new_base=low.base,
            new_base_format=low.base_format,
            merged=low.data,
            layers=family.layers_up(self._layers, self._active),
            content=family.content_of(self._layers, self._active),
            points=self._points,
            keeps=keeps,
            why=self._why,
        )

    def _refuse_to_lose_points(self, path: str, others: t.Sequence[str]) -> None:
        """The lowest point holds the family together: without it, the next run would not find the points on it."""
        disk = next((each for each in others if self._may_be_a_disk(each)), None)
        if disk is not None:
            raise refuse.refused(
                self._spec,
                "has_overlays",
                "another disk, %s, has %s as its snapshot too" % (disk, path),
                "Remove that file if it is no disk; or flatten it.",
                {"overlays": [disk]},
            )
        above = family.above(self._layers, others)
        names = [str(self._layers[each].point) for each in above if self._layers[each].point]
        if names and self._layers[path].base not in self._layers:
            raise refuse.refused(
                self._spec,
                "has_overlays",
                "snapshots are built on %s beside the disk of now: %s" % (path, ", ".join(names)),
                "Remove those first.",
                {"overlays": above, "snapshots": names},
            )

    def _may_be_a_disk(self, path: str) -> bool:
        """Whether a layer on the point, beside the one that is the disk, is an overlay of ours with no other meaning."""
        layer = self._layers.get(path)
        return layer is not None and path != self._active and layer.point is None and not layer.retired

    def _refuse_to_lose_name(self, gone: str, kept: str) -> None:
        """The next run must find what this one was told of."""
        if gone == self._named:
            raise refuse.refused(
                self._spec,
                "image_would_go",
                "its file would be no part of the disk after the merge, but %s" % kept,
                "Name %s in image." % kept,
                {"path": gone, "left": kept},
            )
