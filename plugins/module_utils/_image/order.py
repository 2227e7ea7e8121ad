# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""The images of one task among each other: which needs which, and what one will find when others are done. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._image import difference, refuse, state
from ansible_collections.platter.qemu.plugins.module_utils._image.plan import plan_image

Needs = t.Mapping[str, t.AbstractSet[str]]


def needs_of(items: t.Sequence[Item]) -> t.Dict[str, t.Set[str]]:
    """An image needs its base and its source first; a base is removed only after its overlays are done with, and a
    source only after what is made from it.
    """
    names = {item.name for item in items}
    needs: t.Dict[str, t.Set[str]] = {item.name: set() for item in items}
    removed = {item.name for item in items if item.spec.state == "absent"}
    for item in items:
        spec = item.spec
        place = spec.source.place if spec.source else None
        source = place.path or place.text if place else None
        if source in removed and source != item.name:
            needs[str(source)].add(item.name)
        wanted = [spec.backing.path if spec.backing else None, source]
        needs[item.name].update(path for path in wanted if path in names and path not in removed)
        base = item.before.backing.path if item.before.backing else None
        if base in names and (base in removed or _leaves(item)):
            needs[str(base)].add(item.name)
    return needs


def _leaves(item: Item) -> bool:
    """Whether the task takes the image off its present base: that must be done before the base is touched."""
    spec = item.spec
    return (
        spec.state == "absent" or spec.flatten or bool(spec.backing and spec.backing.path != item.before.backing.path)
    )


def plan_item(item: Item, by_path: t.Mapping[str, Item], needs: Needs) -> None:
    """Fill in the plan and what it leads to, or the refusal, of an item whose needs are planned already."""
    if item.refusal:
        return
    missing = _refused_needs(item, by_path, needs)
    if missing:
        item.refusal = missing
        return
    try:
        item.reading = _with_predictions(item, by_path)
        item.plan = list(plan_image(item.spec, item.before, item.reading))
        item.after = predict(item.before, item.plan)
    except errors.RefusedError as exc:
        item.refusal = exc
        return
    _note(item)


def warn_of_other_sources(items: t.Sequence[Item]) -> None:
    """One sentence for all images that are kept though the task names another source by now."""
    found: t.Dict[t.Tuple[str, str], t.List[Item]] = {}
    for item in items:
        digests = None if item.refusal else difference.other_digest(item.spec, item.before)
        if digests:
            found.setdefault(digests, []).append(item)
    for (old, new), kept in found.items():
        names = ", ".join(item.name for item in kept[:5]) + (", ..." if len(kept) > 5 else "")
        kept[0].warnings.append(
            "%s made from a source with the checksum %s, and kept: the source that the task names has %s. To import it"
            " again, set source_policy to if_changed; what the guest has written is lost then."
            % ("%s was" % names if len(kept) == 1 else "%d images (%s) were" % (len(kept), names), old, new)
        )


def _note(item: Item) -> None:
    unprovable = difference.unprovable_options(item.spec, item.reading) if item.before.exists and not item.plan else []
    if unprovable:
        item.notes["unprovable_options"] = unprovable


def _with_predictions(item: Item, by_path: t.Mapping[str, Item]) -> t.Any:
    """The reading, with base and source as earlier items of this task will have left them."""
    reading, spec = item.reading, item.spec
    base = by_path.get(spec.backing.path) if spec.backing else None
    if base is not None and base.plan and base.after.exists:
        looks = () if base.after.format == "raw" else (base.after.format,)
        there = state.BaseReading(base.name, True, looks, base.after.virtual_size)
        reading = replace(reading, base=there)
    place = spec.source.place if spec.source else None
    source = by_path.get(place.path) if place and place.path else None
    if source is not None and source.plan and not item.before.exists:
        reading = replace(reading, source=state.SourceReading(virtual_size=source.after.virtual_size))
    return reading


def pass_on_refusals(order: t.Iterable[str], by_path: t.Mapping[str, Item], needs: Needs) -> None:
    """What is to be made from something that the guard refused is refused too."""
    for name in order:
        item = by_path[name]
        if item.plan and not item.refusal:
            item.refusal = _refused_needs(item, by_path, needs)


def _refused_needs(item: Item, by_path: t.Mapping[str, Item], needs: Needs) -> t.Optional[errors.EngineError]:
    for name in sorted(needs[item.name]):
        cause = by_path[name].refusal
        if cause is not None:
            return refuse.refused(
                item.spec,
                "needs_refused",
                "it needs %s, which is refused" % name,
                "Mend what is refused there.",
                {"needs": name, "reason": cause.facts.get("reason")},
            )
    return None
