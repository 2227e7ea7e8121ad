# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Reads the family of an external image: its layers, who is built on whom, and which of them are points. Read-only."""

from __future__ import annotations

import os
import time
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import EngineError
from ansible_collections.platter.qemu.plugins.module_utils._inspect.chain import resolve_backing
from ansible_collections.platter.qemu.plugins.module_utils._inspect.image import Seen, look_at
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import family
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.observe import (
    bitmaps_of,
    chain_problem,
    contents_of,
)
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.refuse import refused
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import (
    Layer,
    Point,
    SnapshotReading,
    SnapshotState,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools.files import TEMP_PREFIX, local_node
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg, image_node

_MERGING_STATES = ("absent", "committed", "streamed", "pruned")
Observed = t.Tuple[SnapshotState, SnapshotReading]


def observe_layers(spec: SnapshotSpec, path: str, qemu_img: QemuImg, find_live: t.Callable[..., t.Any]) -> Observed:
    """The state and the reading of an external image. Raises RefusedError when its active layer cannot be told."""
    seen = look_at(path, spec.format, follow=False)
    if seen.header is None:
        return SnapshotState(spec.image, spec.kind, path), _reading(path, seen)
    directory = _Directory(path, spec)
    live = find_live(spec, directory.above(path))
    active = live.active if live is not None else directory.active(path)
    layers = directory.family(active, qemu_img if spec.state in _MERGING_STATES else None)
    return _state(spec, active, layers, directory, live), _reading(path, seen, directory, layers, active, live)


def family_paths(spec: SnapshotSpec, path: str) -> t.List[str]:
    """Every file that a change of the image may concern: what it is built on, and what is built on that."""
    directory = _Directory(path, spec)
    found: t.List[str] = []
    while path in directory.seen:
        found += directory.above(path)
        base = directory.bases.get(path)
        if base is None or not directory.record(base):
            break
        path = base
    return found


class _Directory:
    """All images of the directories, looked at once, and who is built on whom."""

    def __init__(self, path: str, spec: SnapshotSpec) -> None:
        self._spec = spec
        self.seen: t.Dict[str, Seen] = {}
        self.bases: t.Dict[str, t.Optional[str]] = {}
        self.children: t.Dict[str, t.List[str]] = {}
        known: t.Dict[t.Tuple[int, int], str] = {}
        for name in (path, *_files({os.path.dirname(path), *spec.overlay_directories})):
            self._look(name, spec.format if name == path else None, known)
        self._follow_down(path)
        for name, base in self.bases.items():
            if base is not None:
                self.children.setdefault(base, []).append(name)

    def _look(self, path: str, declared: t.Optional[str], known: t.Dict[t.Tuple[int, int], str]) -> None:
        """A second name of a file that was seen is no other image: a run may have been killed between two names."""
        try:
            seen = look_at(path, declared)
        except EngineError:
            return
        if seen.header is None or known.setdefault(seen.facts.identity, path) != path:
            return
        self.seen[path] = seen
        self.bases[path] = _base_of(path, seen)

    def _follow_down(self, path: str) -> None:
        """The chain may lead out of the directories."""
        known = {seen.facts.identity: name for name, seen in self.seen.items()}
        base = self.bases.get(path)
        while base is not None and len(self.seen) < 10_000:
            if base not in self.seen:
                self._look(base, self.seen[path].header.backing_format, known)  # type: ignore[union-attr]
            path, base = base, self.bases.get(base)

    def record(self, path: str) -> t.Mapping[str, t.Any]:
        """What is remembered of a file as a layer of ours; empty for others. A merge that has ended hands on."""
        record = self.seen[path].record.get("snapshot") or {}
        merging = record.get("merging")
        if merging and self.bases.get(merging) != path:
            heir = {"name": record["heir"], "date": record.get("heir_date")} if record.get("heir") else {}
            return dict({"made": record["made"]} if "made" in record else {}, **heir)
        return t.cast("t.Mapping[str, t.Any]", record)

    def is_point(self, path: str, active: t.Optional[str] = None) -> bool:
        """A file with a name for what it holds: one that something is built on, or that was kept when it was left."""
        record = self.record(path)
        frozen = bool(self.children.get(path)) or bool(record.get("leaf"))
        return path != active and bool(record.get("name")) and frozen

    def above(self, path: str) -> t.List[str]:
        """The file and all that is built on it."""
        found = [path]
        for each in found:
            found += [child for child in self.children.get(each, ()) if child not in found]
        return found

    def active(self, path: str) -> str:
        """The layer that the disk is in now: C(path), or where the layers lead that were made on it."""
        if not (self.record(path).get("name") and self.children.get(path)):
            return path
        tops = [each for each in self.above(path) if self.record(each) and not self.is_point(each)]
        if len(tops) != 1:
            raise refused(
                self._spec,
                "active_unknown",
                "it is a snapshot, and %s"
                % (
                    "several layers on it could be the disk of now"
                    if tops
                    else "the layer on it that was the disk is not there"
                ),
                "Name the layer that the VM uses in image.",
                {"layers": tops},
            )
        return tops[0]

    def unused_overlays(self, active: str) -> t.Set[str]:
        """Empty overlays of ours on the active layer: made for a running VM that was then not switched to them."""
        made = [child for child in self.children.get(active, ()) if self.record(child) and not self.is_point(child)]
        return {child for child in made if self._is_empty(child, active)}

    def family(self, active: str, qemu_img: t.Optional[QemuImg]) -> t.Dict[str, Layer]:
        """The layers from the lowest point up, with all that is built on them."""
        chain = [active]
        while self.bases.get(chain[-1]) in self.seen:
            chain.append(t.cast(str, self.bases[chain[-1]]))
        points = [path for path in chain if path != active and self.is_point(path)]
        members = self.above(points[-1] if points else active)
        return {path: self._layer(path, active, qemu_img) for path in members}

    def _layer(self, path: str, active: str, qemu_img: t.Optional[QemuImg]) -> Layer:
        seen, base = self.seen[path], self.bases[path]
        header = t.cast(t.Any, seen.header)
        record = self.record(path) if self.is_point(path, active) else {}
        return Layer(
            path=path,
            format=header.format,
            virtual_size=header.virtual_size,
            base=base,
            base_format=header.backing_format,
            children=tuple(self.children.get(path, ())),
            allocated=_allocated(qemu_img, seen) if qemu_img else 0,
            empty=self._is_empty(path, base),
            point=record.get("name"),
            merging=record.get("merging"),
            bitmaps=tuple(bitmap.name for bitmap in header.bitmaps),
            snapshots=tuple(snapshot.name for snapshot in header.snapshots),
        )

    def _is_empty(self, path: str, base: t.Optional[str]) -> bool:
        header = t.cast(t.Any, self.seen[path].header)
        if base not in self.seen or header.format != "qcow2":
            return False
        if header.virtual_size != t.cast(t.Any, self.seen[base].header).virtual_size:
            return False
        contents = contents_of(path)
        return contents is not None and contents.empty


def _files(directories: t.Iterable[str]) -> t.Iterator[str]:
    for directory in sorted(directories):
        try:
            with os.scandir(directory) as entries:
                names = sorted(each.name for each in entries if each.is_file(follow_symlinks=False))
        except FileNotFoundError:
            continue
        yield from (os.path.join(directory, name) for name in names if not name.startswith(TEMP_PREFIX))


def _base_of(path: str, seen: Seen) -> t.Optional[str]:
    name = seen.header.backing_file if seen.header else None
    kind, target = resolve_backing(path, name) if name else ("", "")
    return os.path.realpath(target) if kind == "file" else None


def _allocated(qemu_img: QemuImg, seen: Seen) -> int:
    """Bytes of guest data that the file holds itself, not its base."""
    node = image_node(t.cast(t.Any, seen.header).format, local_node(seen.facts))
    return sum(int(extent["length"]) for extent in qemu_img.map(node) if _is_own(extent))


def _is_own(extent: t.Mapping[str, t.Any]) -> bool:
    return extent["depth"] == 0 and bool(extent.get("present", extent["data"]))


def _state(
    spec: SnapshotSpec, active: str, layers: t.Mapping[str, Layer], directory: _Directory, live: t.Any
) -> SnapshotState:
    points = [_point(layers, path) for path in layers if layers[path].point]
    points.sort(key=lambda point: (_date(directory, point), len(family.down_from(layers, str(point.path)))))
    return SnapshotState(
        image=spec.image,
        kind=spec.kind,
        active=active,
        link=os.path.realpath(spec.image) if os.path.islink(spec.image) else None,
        virtual_size=layers[active].virtual_size,
        content=None if live is not None else family.content_of(layers, active),
        points=tuple(points),
        layers=family.layers_up(layers, active),
        bitmaps=bitmaps_of(t.cast(t.Any, directory.seen[active].header)),
    )


def _date(directory: _Directory, point: Point) -> float:
    return float(directory.record(str(point.path)).get("date") or 0.0)


def _point(layers: t.Mapping[str, Layer], path: str) -> Point:
    layer = layers[path]
    return Point(
        name=str(layer.point),
        content=family.content_of(layers, path),
        virtual_size=layer.virtual_size,
        path=path,
        merging=layer.merging is not None,
    )


def _reading(
    path: str,
    seen: Seen,
    directory: t.Optional[_Directory] = None,
    layers: t.Optional[t.Mapping[str, Layer]] = None,
    active: str = "",
    live: t.Any = None,
) -> SnapshotReading:
    layers = layers or {}
    top = directory.seen[active] if directory else seen
    points = [each for each in layers.values() if each.point]
    return SnapshotReading(
        header=top.header,
        identity=top.facts.identity,
        kind=top.facts.kind,
        nlink=top.facts.nlink,
        detected=seen.detected,
        chain_problem=chain_problem(active or path, top),
        dates={str(p.point): float(directory.record(p.path).get("date") or 0.0) for p in points} if directory else {},
        now=time.time(),
        layers=layers,
        taken_names=_taken(active or path, directory),
        unused_overlays=frozenset(directory.unused_overlays(active)) if directory else frozenset(),
        live=live,
    )


def _taken(active: str, directory: t.Optional[_Directory]) -> t.FrozenSet[str]:
    """Every name in the directory of the active layer, but not what a killed run has left of this very step."""
    folder = os.path.dirname(active)
    names = {os.path.join(folder, name) for name in os.listdir(folder)} if os.path.isdir(folder) else set()
    if directory is None:
        return frozenset(names)
    own = directory.seen[active].facts.identity
    links = {name for name in names if name != active and _identity(name) == own}
    return frozenset(names - links - directory.unused_overlays(active))


def _identity(path: str) -> t.Optional[t.Tuple[int, int]]:
    try:
        seen = os.lstat(path)
    except OSError:
        return None
    return (seen.st_dev, seen.st_ino)
