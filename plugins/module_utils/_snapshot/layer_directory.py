# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The images of the directories that an external image has files in: who is built on whom. Read-only."""

from __future__ import annotations

import os
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._inspect import image
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import (
    layer_records,
    left_merge,
    left_stream,
    merge_stages,
    neighbours,
    observe,
    refuse,
    second_names,
    state,
    target,
)
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.family import LEAVING
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import files
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg

#: a chain is not followed further
_MOST_STEPS = 200
_NAME_IT = "Name the layer that the VM uses in image."


class LayerDirectory:
    """All images of the directories, looked at once, and who is built on whom."""

    def __init__(self, path: str, spec: SnapshotSpec) -> None:
        self._spec = spec
        self.seen: t.Dict[str, image.Seen] = {}
        self.bases: t.Dict[str, t.Optional[str]] = {}
        self.children: t.Dict[str, t.List[str]] = {}
        self._known: t.Dict[t.Tuple[int, int], str] = {}
        self._look(path, spec.format)
        self._follow_down(path)  # before the others: what a file is says the image that is built on it, not its bytes
        looked: t.Set[str] = set()
        directories = {os.path.dirname(path), *spec.overlay_directories}
        while directories - looked:
            for name in neighbours.files_in(directories - looked, {os.path.dirname(path), *spec.overlay_directories}):
                self._look(name, None)
            looked |= directories
            self._follow_down(path)
            directories |= set(self._directories_of_layers())
        for name, base in self.bases.items():
            if base is not None:
                self.bases[name] = base = self._known_name(base)
                self.children.setdefault(base, []).append(name)
        self.left = left_merge.left_overlays(self, spec.image)

    def _known_name(self, path: str) -> str:
        """The name by which a file was seen: a base may be named by another of its names."""
        if path in self.seen:
            return path
        return self._known.get(files.file_facts(path).identity, path)

    def _directories_of_layers(self) -> t.Iterator[str]:
        """Layers may lie in other directories than the image that the task names, below it or above."""
        for path, seen in list(self.seen.items()):
            record = layer_records.snapshot_in(seen.record)
            if record:
                yield os.path.dirname(path)
            for overlay in layer_records.overlays_in(record):
                if self._is_on_ours(overlay):
                    yield os.path.dirname(overlay)

    def _is_on_ours(self, path: str) -> bool:
        """Whether an overlay of ours is there, on what has been seen: a record alone opens no directory to us."""
        for _step in range(_MOST_STEPS if os.path.isabs(path) else 0):
            seen = self.seen.get(path) or self._overlay_at(path)
            base = target.base_of(path, seen) if seen else None
            if base is None:
                return False
            if self._known_name(base) in self.seen:
                return True
            path = base
        return False

    @staticmethod
    def _overlay_at(path: str) -> t.Optional[image.Seen]:
        try:
            seen = image.look_at(path, "qcow2", follow=False)
        except (errors.EngineError, OSError, ValueError):  # the last for what no path can be
            return None
        return seen if "made" in layer_records.snapshot_in(seen.record) else None

    def _look(self, path: str, declared: t.Optional[str]) -> None:
        """A second name of a file that was seen is no other image: a run may have been killed between two names."""
        if path in self.seen:
            return
        try:
            seen = image.look_at(path, declared)
        except errors.EngineError:
            return
        if seen.header is None or (self.seen and second_names.is_second_name(path, seen.record.get("snapshot") or {})):
            return
        if self._known.setdefault(seen.facts.identity, path) != path:
            return
        self.seen[path] = seen
        self.bases[path] = target.base_of(path, seen)

    def _follow_down(self, path: str) -> None:
        """The chain may lead out of the directories."""
        base = self.bases.get(path)
        while base is not None and len(self.seen) < 10_000:
            if base not in self.seen:
                self._look(base, self.seen[path].header.backing_format)  # type: ignore[union-attr]
            path, base = base, self.bases.get(base)

    def record(self, path: str) -> t.Mapping[str, t.Any]:
        """What is remembered of a file as a layer of ours; empty for others. A merge that has ended hands on."""
        return left_merge.as_seen(layer_records.snapshot_in(self.seen[path].record), path, self.bases)

    def is_point(self, path: str, active: t.Optional[str] = None) -> bool:
        """A file with a name for what it holds: one that something is built on, that was kept when it was left, or
        that is being merged down.
        """
        record = self.record(path)
        base = self.bases.get(path)
        below = self.record(str(base)) if base in self.seen else {}
        merging = below.get("merging") == path and below.get("heir") == record.get("name")
        frozen = bool(self.children.get(path)) or bool(record.get("leaf")) or merging
        return path != active and bool(record.get("name")) and frozen

    def is_made(self, path: str) -> bool:
        """Whether the file is an overlay that was made for a snapshot: not a clone, which is a disk of its own."""
        lowest = left_stream.lowest(self, path)
        return "made" in self.record(path) and lowest is None and self._may_speak_for_its_base(path)

    def _may_speak_for_its_base(self, path: str) -> bool:
        """A user can make an overlay on a file of another's, with a record as ours: what the base's owner has says no."""
        base = self.bases.get(path)
        if base not in self.seen:
            return True
        record = self.record(base)
        named = [each for each in layer_records.overlays_in(record) if self.bases.get(each) == base]
        owners = {str(self.seen[each].facts.owner) for each in (base, *named)}
        allowed = {"0", str(os.geteuid()), *owners, *map(str, record.get("owners", ()))}
        return str(self.seen[path].facts.owner) in allowed

    def ours_above(self, paths: t.Iterable[str]) -> t.List[str]:
        """These files, and the overlays of ours on them; no clones, and nothing that is built on those."""
        found = list(paths)
        for each in found:
            found += [child for child in self.children.get(each, ()) if self.is_made(child) and child not in found]
        return found

    def switch(self, path: str) -> t.Optional[str]:
        """How the VM comes to the disk in this file, as the task said that made it."""
        found = layer_records.snapshot_in(self.seen[path].record).get("switch")
        return str(found) if found in ("none", "symlink", "rename") else None

    def above(self, path: str) -> t.List[str]:
        """The file and all that is built on it."""
        found = [path]
        for each in found:
            found += [child for child in self.children.get(each, ()) if child not in found]
        return found

    def active(self, path: str) -> str:
        """The layer that the disk is in now: C(path), or where the layers lead that were made on it."""
        if path in (*self.left, *self.left.values()):
            return self.left.get(path, path)
        record = self.record(path)
        if record.get("retired"):
            raise self._unknown("it was a snapshot that has been removed, and stays for what is built on it", [])
        if not record.get("name") or not self._is_taken(path):
            return path
        above = self.ours_above([path])
        unused = {overlay for each in above for overlay in left_merge.unused_overlays(self, each)}
        tops = [self.left.get(each, each) for each in above[1:] if each not in unused and self._may_be_disk(each)]
        if len(tops) != 1:
            where = "the disk is in another file, which is not on it or not there"
            where = "several layers on it could be the disk of now" if tops else where
            raise self._unknown("it is snapshot %s, and %s" % (record["name"], where), tops)
        return tops[0]

    def active_of_vm(self, path: str) -> str:
        """C(path), to which a running VM writes. Raises RefusedError when it is a snapshot's: that name would be lost."""
        record = self.record(path)
        kept = record.get("name") and (record.get("settled") or record.get("leaf")) and not record.get("merging")
        if kept:
            tops = [each for each in self.ours_above([path])[1:] if not self.is_point(each)]
            fact = "its VM was started from %s, which is snapshot %s, and writes to it" % (path, record["name"])
            raise self._unknown(fact, tops, "Stop the VM, and start it from the layer that is to be its disk.")
        return path

    def _may_be_disk(self, path: str) -> bool:
        """Whether a layer is no point, or not yet, and has not been one."""
        return not self.record(path).get("retired") and not (self.is_point(path) and self._is_taken(path))

    def _is_taken(self, path: str) -> bool:
        """Whether the disk is above the point at C(path): not when a run was killed before it was anywhere else."""
        record, above = self.record(path), set(self.children.get(path, ()))
        return bool(record.get("settled") or record.get("leaf") or above - left_merge.unused_overlays(self, path))

    def _unknown(self, fact: str, tops: t.List[str], way_out: str = _NAME_IT) -> errors.RefusedError:
        return refuse.refused(self._spec, "active_unknown", fact, way_out, {"layers": tops})

    def settled_below(self, path: str) -> str:
        """The file below C(path) that a QEMU may still have open: one that it is leaving, or was not switched to yet."""
        base = self.bases.get(path)
        while base in self.seen and self.is_made(path) and not self.children.get(path):
            if not path.endswith(LEAVING) and not self.is_empty(path, base):
                break
            path = base
            base = self.bases.get(path)
        return path

    def family(
        self, active: str, qemu_img: t.Optional[QemuImg], written: t.Collection[str] = ()
    ) -> t.Dict[str, state.Layer]:
        """The layers from the lowest point up, with all that is built on them.

        C(qemu_img): None where nobody asks how much they hold. C(written): those that a running QEMU writes to.
        """
        chain = [active]
        while self.is_made(chain[-1]) and self.bases.get(chain[-1]) in self.seen:
            chain.append(t.cast(str, self.bases[chain[-1]]))
        points = [path for path in chain if path != active and self.is_point(path)]
        members = self.ours_above(reversed(chain[: chain.index(points[-1]) + 1] if points else [active]))
        streamed = [left_stream.point(self, path) for path in members]
        members += [left for left in streamed if left and left not in members]
        layers = {path: self._layer(path, active, written) for path in members}
        if qemu_img is None:
            return layers
        from ansible_collections.platter.qemu.plugins.module_utils._snapshot import layer_amount

        amounts = {path: layer_amount.data_in(qemu_img, self.seen[path], path in written) for path in members}
        return {path: replace(layer, data=amounts[path]) for path, layer in layers.items()}

    def names(self, path: str) -> t.List[str]:
        """The points of the disk that the file is a layer of."""
        layers = self.family(path, None)
        own = [self.record(path)["name"]] if self.is_point(path) else []
        return own + [layer.point for layer in layers.values() if layer.point]

    def _layer(self, path: str, active: str, written: t.Collection[str]) -> state.Layer:
        seen, base = self.seen[path], self.bases[path]
        header = t.cast(t.Any, seen.header)
        record = self.record(path) if self.is_point(path, active) else {}
        copied, forked = self._copied(path, written)
        return state.Layer(
            path=path,
            format=header.format,
            virtual_size=header.virtual_size,
            base=base,
            base_format=header.backing_format,
            children=tuple(self.children.get(path, ())),
            empty=self.is_empty(path, base),
            point=record.get("name"),
            merging=self.record(path).get("merging"),
            copied=copied,
            forked=forked,
            retired=bool(self.record(path).get("retired")),
            told="told" in self.record(path),
            merged="merged" in self.record(path),
            streamed=left_stream.point(self, path),
            lowest=left_stream.lowest(self, path) is not None,
            names=seen.facts.nlink - bool(second_names.second_name(path, layer_records.snapshot_in(seen.record))),
            variant=str(header.options.get("compat") or header.options.get("subformat") or ""),
            bitmaps=observe.bitmaps_of(header),
            snapshots=tuple(snapshot.name for snapshot in header.snapshots),
            stamp=seen.facts.stamp,
            frozen=(record["size"], record["mtime_ns"]) if {"size", "mtime_ns"} <= record.keys() else None,
        )

    def _copied(self, path: str, written: t.Collection[str]) -> t.Tuple[bool, bool]:
        """(whether all of the overlay whose merge was begun is in the file; whether both were written to since)"""
        overlay = self.record(path).get("merging")
        if overlay is None:
            return (False, False)
        record = layer_records.snapshot_in(self.seen[path].record)
        facts = (self.seen[path].facts, self.seen[overlay].facts)
        return merge_stages.copy_state(record, *facts, in_use=overlay in written)

    def is_empty(self, path: str, base: t.Optional[str], resized: bool = False) -> bool:
        """Whether the file is an overlay that shows what its base does, and is as large unless that was C(resized)."""
        header = t.cast(t.Any, self.seen[path].header)
        if base not in self.seen or header.format != "qcow2":
            return False
        if not resized and header.virtual_size != t.cast(t.Any, self.seen[base].header).virtual_size:
            return False
        contents = observe.contents_of(path)
        return contents is not None and contents.empty
