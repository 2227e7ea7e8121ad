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
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, moment
from ansible_collections.platter.qemu.plugins.module_utils._inspect import chain, image
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import (
    family,
    layer_directory,
    left_merge,
    neighbours,
    observe,
)
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import (
    Layer,
    Point,
    SnapshotReading,
    SnapshotState,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg

_MERGING_STATES = ("absent", "committed", "streamed", "pruned")
Observed = t.Tuple[SnapshotState, SnapshotReading]


def observe_layers(spec: SnapshotSpec, path: str, qemu_img: QemuImg, find_live: t.Callable[..., t.Any]) -> Observed:
    """The state and the reading of an external image. Raises RefusedError when its active layer cannot be told."""
    try:
        return _observed(spec, path, qemu_img, find_live)
    except errors.RefusedError as exc:
        if exc.reason != "chain_differs":
            raise
    return _observed(spec, path, qemu_img, find_live)  # a job may have ended between our looks at files and at QEMU


def _observed(spec: SnapshotSpec, path: str, qemu_img: QemuImg, find_live: t.Callable[..., t.Any]) -> Observed:
    seen = image.look_at(path, spec.format, follow=False)
    if seen.header is None or chain.chain_problem(
        path, seen.header, image.chain_header
    ):  # the planner refuses it; a loop has no end to be looked for
        return SnapshotState(spec.image, spec.kind, path, seen=False), _reading(path, seen)
    directory = layer_directory.LayerDirectory(path, spec)
    live = find_live(spec, directory.above(directory.settled_below(path)), directory.bases)
    active = directory.active_of_vm(live.active) if live is not None else directory.active(path)
    written = _written(directory, live.active) if live is not None else ()
    layers = directory.family(active, qemu_img if spec.state in _MERGING_STATES else None, written)
    unused = [layers[each] for each in sorted(left_merge.unused_overlays(directory, active))]
    for each in unused:
        layers = family.removed(layers, each.path)
    if live is not None:
        layers[active] = replace(layers[active], bitmaps=live.bitmaps)
    reading = _reading(path, seen, directory, layers, active, live, spec.overlay or "")
    return _state(spec, active, layers, directory, live), replace(reading, unused=tuple(unused))


def _written(directory: layer_directory.LayerDirectory, active: str) -> t.List[str]:
    """The files that a running QEMU may have changed and not brought to its tables: its disk, and what it merges into."""
    merged_into = [path for path in directory.seen if {"merging", "streaming"} & set(directory.record(path))]
    return [active, *merged_into]


def family_paths(spec: SnapshotSpec, path: str) -> t.List[str]:
    """Every file that a change of the image may concern: what it is built on, and what is built on that."""
    seen = image.look_at(path, spec.format, follow=False)
    if seen.header is None or chain.chain_problem(path, seen.header, image.chain_header):
        return [path]
    directory = layer_directory.LayerDirectory(path, spec)
    found: t.List[str] = []
    while path in directory.seen:
        found += directory.above(path)
        base = directory.bases.get(path)
        if base not in directory.seen or not {"made", "name"} & directory.record(base).keys():
            break
        path = base
    return found


def _state(
    spec: SnapshotSpec,
    active: str,
    layers: t.Mapping[str, Layer],
    directory: layer_directory.LayerDirectory,
    live: t.Any,
) -> SnapshotState:
    points = [_point(layers, path, directory) for path in layers if layers[path].point]
    points.sort(key=lambda point: (point.date or 0.0, len(family.down_from(layers, str(point.path)))))
    state = SnapshotState(
        image=spec.image,
        kind=spec.kind,
        active=active,
        link=os.path.realpath(spec.image) if os.path.islink(spec.image) else None,
        virtual_size=layers[active].virtual_size,
        content=family.content_of(layers, active),
        points=tuple(points),
        layers=family.layers_up(layers, active),
        bitmaps=observe.bitmaps_of(t.cast(t.Any, directory.seen[active].header)) if live is None else live.bitmaps,
    )
    return state if live is None else state.untold()


def _point(layers: t.Mapping[str, Layer], path: str, directory: layer_directory.LayerDirectory) -> Point:
    layer = layers[path]
    return Point(
        name=str(layer.point),
        content=family.content_of(layers, path),
        virtual_size=layer.virtual_size,
        path=path,
        merging=layer.merging is not None,
        altered=layer.altered,
        date=moment.seconds(directory.record(path).get("date")),
    )


def _reading(
    path: str,
    seen: image.Seen,
    directory: t.Optional[layer_directory.LayerDirectory] = None,
    layers: t.Optional[t.Mapping[str, Layer]] = None,
    active: str = "",
    live: t.Any = None,
    overlay: str = "",
) -> SnapshotReading:
    layers = layers or {}
    top = directory.seen[active] if directory else seen
    return SnapshotReading(
        header=top.header,
        identity=top.facts.identity,
        kind=top.facts.kind,
        detected=seen.detected,
        shortage=top.shortage,
        chain_problem=chain.chain_problem(active or path, top.header, image.chain_header),
        now=time.time(),
        layers=layers,
        named=path,
        switch=directory.switch(active) if directory else None,
        other_kind=layers[active].snapshots if active in layers else (),
        taken_names=_taken(active or path, directory, overlay),
        missing_directory=bool(overlay) and not os.path.isdir(os.path.dirname(overlay)),
        live=live,
    )


def _taken(active: str, directory: t.Optional[layer_directory.LayerDirectory], overlay: str) -> t.FrozenSet[str]:
    """Every name in the directory of the active layer, and C(overlay) if there is such a file.

    What a killed run has left of this very step does not count.
    """
    folder = os.path.dirname(active)
    names = {entry.path for entry in neighbours.entries_of(folder)}
    names |= {overlay} if os.path.lexists(overlay) else set()
    if directory is None:
        return frozenset(names)
    own = directory.seen[active].facts.identity
    links = {name for name in names if name != active and _identity(name) == own}
    return frozenset(names - links - left_merge.unused_overlays(directory, active))


def _identity(path: str) -> t.Optional[t.Tuple[int, int]]:
    try:
        seen = os.lstat(path)
    except OSError:
        return None
    return (seen.st_dev, seen.st_ino)
