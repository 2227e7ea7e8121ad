# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""The images of one task among each other: which needs which, and what one will find when others are done. Pure."""

from __future__ import annotations

import posixpath
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, words
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._image import difference, foretell, refuse
from ansible_collections.platter.qemu.plugins.module_utils._image.plan import plan_image

Needs = t.Mapping[str, t.AbstractSet[str]]
Named = foretell.Named
#: the name of the image of the task that a path goes with, by paths (C(depending.py: taken_along))
Along = t.Mapping[str, str]


def mentioned(items: t.Iterable[Item]) -> t.Set[str]:
    """Every path by which one image of the task may need another."""
    return {path for item in items for path in [*_wanted(item), *_built_on(item)]}


def _wanted(item: Item) -> t.List[str]:
    """The base and the source that are asked for, and what lies below the base."""
    source, backing = foretell.source_path(item), item.spec.backing
    if item.spec.state == "absent":
        return []
    base = item.reading.base if item.reading else None
    below = base.in_chain_of[1:] if base else ()
    return [*([backing.path] if backing else []), *below, *([source] if source else [])]


def _built_on(item: Item) -> t.List[str]:
    """The files that the image names now: its base (below its snapshots too), its data file, its extents."""
    header = item.reading.header if item.reading else None
    names = [extent.filename for extent in header.extents] if header else []
    names += [header.backing_file, header.data_file] if header else []
    names += [item.before.backing.path] if item.before.backing else []
    return [posixpath.join(posixpath.dirname(item.name), name) for name in names if name]


def needs_of(items: t.Sequence[Item], named: Named, along: Along) -> t.Dict[str, t.Set[str]]:
    """An image needs its base and its source first; a base is removed only after its overlays are done with, and a
    source, or what it goes with, only after what is made from it.
    """
    needs: t.Dict[str, t.Set[str]] = {item.name: set() for item in items}
    removed = {item.name for item in items if item.spec.state == "absent"}
    for item in items:
        source = foretell.source_path(item) or ""
        for taker in ({named.get(source)} & removed) | ({along[source]} if source in along else set()):
            needs[str(taker)] |= {item.name} - {str(taker)}
        needs[item.name] |= {named[path] for path in _wanted(item) if path in named} - removed - {item.name}
    for item in items:
        for base in {named[path] for path in _built_on(item) if path in named} - {item.name}:
            if (base in removed or _leaves(item)) and not _needs(item.name, base, needs):
                needs[base].add(item.name)
    return needs


def _needs(name: str, other: str, needs: Needs) -> bool:
    """Whether the one waits for the other, by however many steps: it goes onto what is built on that."""
    waiting, known = [name], {name}
    while waiting:
        more = needs[waiting.pop()] - known
        known |= more
        waiting += more
    return other in known


def _leaves(item: Item) -> bool:
    """Whether the task takes the image off what it is built on: that must be done before the base is touched."""
    return bool(item.spec.flatten or item.spec.backing or drops_files(item))


def drops_files(item: Item) -> bool:
    """Whether files of the image may go: with it, or because a new file without them takes its place."""
    spec, source = item.spec, item.reading.source if item.reading else None
    again = source and source.changed and spec.source.policy == "if_changed"
    return bool(spec.state == "absent" or again or (spec.allow_rewrite and spec.format != item.before.format))


def plan_item(item: Item, by_path: t.Mapping[str, Item], needs: Needs, named: Named, along: Along) -> None:
    """Fill in the plan and what it leads to, or the refusal, of an item whose needs are planned already."""
    if item.refusal:
        return
    missing = _refused_needs(item, by_path, needs)
    if missing:
        item.refusal = missing
        return
    try:
        item.reading = foretell.with_predictions(item, by_path, named)
        plan = list(plan_image(item.spec, item.before, item.reading))
        _refuse_removed_base(item.spec, plan, by_path, named, along)
        _refuse_taking_along(item, plan, by_path, along)
        item.plan = plan
        item.after = predict(item.before, item.plan)
    except errors.RefusedError as exc:
        item.refusal = exc
        return
    _note(item)


def _refuse_removed_base(
    spec: t.Any, plan: t.Sequence[t.Any], by_path: t.Mapping[str, Item], named: Named, along: Along
) -> None:
    """No image gets a base that the same task removes."""
    bases = [action.backing.path for action in plan if getattr(action, "backing", None)]
    gone = [path for path in bases if path in named and by_path[named[path]].spec.state == "absent"]
    for base in gone + [path for path in bases if path in along]:
        with_it = " with %s" % along[base] if base in along else ""
        raise refuse.refused(
            spec,
            "base_missing",
            "its backing file %s is removed%s by the same task" % (base, with_it),
            "Name another base, or leave that one out of the task.",
            {"backing_file": base},
        )


def _refuse_taking_along(item: Item, plan: t.Sequence[t.Any], by_path: t.Mapping[str, Item], along: Along) -> None:
    """No image takes a file along that the same task is to keep as an image."""
    taken = sorted(path for path, taker in along.items() if taker == item.name and path in by_path)
    kept = [path for path in taken if by_path[path].spec.state == "present"]
    if plan and kept:
        raise refuse.refused(
            item.spec,
            "file_listed",
            "its file %s would go with it, and is an image of the same task" % kept[0],
            "Leave the removal out of the task; or import that file into a new image, and list only that.",
            {"files": kept},
        )


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
    if item.after.corruptions:
        item.warnings.append(
            "%s has %s (qemu-img check). repair: leaks gives back unused clusters, and puts right no more than what follows"
            " from them; set repair to all to have the rest repaired, in a copy."
            % (item.name, words.counted(item.after.corruptions, "corruption"))
        )


def pass_on_refusals(order: t.Iterable[str], by_path: t.Mapping[str, Item], needs: Needs) -> None:
    """What is to be made from something that the guard refused, or left as it is because it is in use, is refused too."""
    for name in order:
        item = by_path[name]
        if item.plan and not item.refusal:
            item.refusal = _refused_needs(item, by_path, needs)


def _refused_needs(item: Item, by_path: t.Mapping[str, Item], needs: Needs) -> t.Optional[errors.EngineError]:
    for name in sorted(needs[item.name]):
        cause, skipped = by_path[name].refusal, by_path[name].notes.get("skipped_reason")
        if cause is not None or skipped:
            return refuse.refused(
                item.spec,
                "needs_refused",
                "it needs %s, which is %s" % (name, "refused" if cause else "left as it is (%s)" % skipped),
                "Mend what is refused there." if cause else "Run the task again when nobody uses that.",
                {"needs": name, "reason": cause.facts.get("reason") if cause else skipped},
            )
    return None
