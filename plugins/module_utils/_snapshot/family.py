# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The files of an external image as a family: who is built on whom, and what becomes of it by a merge. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._snapshot import state

Layers = t.Mapping[str, state.Layer]
#: added to the name of an overlay while a running QEMU switches from it to its base: nothing can start from it then
LEAVING = ".leaving~"


def shows_base(layers: Layers, path: str) -> bool:
    """Whether a layer is an empty overlay on another one of the family."""
    return layers[path].empty and layers[path].base in layers


def content_of(layers: Layers, path: str) -> str:
    """What tells the content of a layer: the file that holds the uppermost data of it, and its size.

    An empty overlay shows what its base holds.
    """
    layer = layers[path]
    if shows_base(layers, path):
        return content_of(layers, t.cast(str, layer.base))
    return "%s:%d" % (path, layer.virtual_size)


def down_from(layers: Layers, path: str) -> t.List[str]:
    """The files of the family from C(path) down, as far as they belong to the family."""
    found = [path]
    while layers[found[-1]].base in layers:
        found.append(t.cast(str, layers[found[-1]].base))
    return found


def points(layers: Layers) -> t.List[str]:
    """The files that are points."""
    return [path for path, layer in layers.items() if layer.point is not None]


def layers_up(layers: Layers, active: str) -> t.Tuple[str, ...]:
    """The files from the lowest point's up to the active one."""
    chain = down_from(layers, active)
    lowest = max((number for number, path in enumerate(chain) if layers[path].point), default=0)
    return tuple(reversed(chain[: lowest + 1]))


def child_towards(layers: Layers, path: str, active: str) -> t.Optional[str]:
    """The layer on C(path) that the active one is built on, or is; else the only one there is."""
    chain = down_from(layers, active)
    for child in layers[path].children:
        if child in chain:
            return child
    return layers[path].children[0] if len(layers[path].children) == 1 else None


def above(layers: Layers, paths: t.Sequence[str]) -> t.List[str]:
    """These files of the family, and all of it that is built on them."""
    found = [path for path in paths if path in layers]
    for each in found:
        found += [child for child in layers[each].children if child in layers and child not in found]
    return found


def in_chain(chain: t.Collection[str], *paths: str) -> t.Optional[bool]:
    """Whether the files are in the chain that a running QEMU has; None when only some of them are."""
    found = {path in chain for path in paths}
    return found.pop() if len(found) == 1 else None


def is_ours(layers: Layers, path: str, active: str) -> bool:
    """Whether a layer belongs to the disk: the active one, or a point."""
    return path == active or (path in layers and layers[path].point is not None)


def committed(layers: Layers, base: str, overlay: str, renamed: t.Optional[str]) -> t.Dict[str, state.Layer]:
    """The family after C(overlay) was merged down into C(base), which is then called C(renamed)."""
    low, top = layers[base], layers[overlay]
    name = renamed or base
    merged = replace(
        low,
        path=name,
        children=tuple(sorted({*top.children, *low.children} - {overlay})),
        virtual_size=top.virtual_size,
        data=low.data.plus(top.data),
        empty=low.empty and top.empty,
        point=top.point,
        merging=None,
        copied=False,
        merged=False,
        stamp=None,
        frozen=None,
    )
    rest = {path: layer for path, layer in layers.items() if path not in (base, overlay)}
    for child in top.children:
        if child in rest:
            rest[child] = replace(rest[child], base=name)
    return _renamed_child({**rest, name: merged}, low.base, base, name)


def _renamed_child(
    layers: t.Dict[str, state.Layer], parent: t.Optional[str], old: str, new: str
) -> t.Dict[str, state.Layer]:
    if parent in layers and old != new:
        layer = layers[parent]
        layers[layer.path] = replace(layer, children=tuple(new if c == old else c for c in layer.children))
    return layers


def streamed(layers: Layers, base: str, overlay: str, keeps: bool) -> t.Dict[str, state.Layer]:
    """The family after what C(base) holds was copied up into C(overlay)."""
    low, top = layers[base], layers[overlay]
    merged = replace(
        top,
        base=low.base,
        base_format=low.base_format,
        data=low.data.plus(top.data),
        empty=low.empty and top.empty,
        stamp=None,
    )
    rest = {path: layer for path, layer in layers.items() if path != base}
    rest[overlay] = merged
    if keeps:
        others = tuple(child for child in low.children if child != overlay)
        rest[base] = replace(low, children=others, point=None)
    if low.base in rest:
        below = rest[low.base]
        kept = [child for child in below.children if child != base or keeps]
        rest[below.path] = replace(below, children=tuple(sorted({*kept, overlay})))
    return rest


def removed(layers: Layers, path: str) -> t.Dict[str, state.Layer]:
    """The family without a layer that nothing is built on."""
    rest = {name: layer for name, layer in layers.items() if name != path}
    parent = layers[path].base
    if parent in rest:
        layer = rest[parent]
        rest[layer.path] = replace(layer, children=tuple(c for c in layer.children if c != path))
    return rest
