# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""What an image of a task will find when those that it needs are done: its base and its source as they will be. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._image import difference, refuse, state

#: the name of the image of the task that a path leads to, by paths (C(_inspect/block_use.py: known_as))
Named = t.Mapping[str, str]


def with_predictions(item: Item, by_path: t.Mapping[str, Item], named: Named) -> t.Any:
    """The reading, with base and source as earlier items of this task will have left them."""
    reading = item.reading
    base = _base(reading.base, by_path, named) if reading.base else None
    if base is not reading.base:
        reading = replace(reading, base=base)
    source = by_path.get(named.get(source_path(item) or "", ""))
    _refuse_another_format(item, source)
    if source is not None and source.plan and not item.before.exists:
        reading = replace(reading, source=state.SourceReading(virtual_size=source.after.virtual_size))
    elif source is not None and _follows(item, source):
        why = "this task changes the source"
        reading = replace(reading, source=state.SourceReading(source.after.virtual_size, changed=True, why=why))
    return reading


def source_path(item: Item) -> t.Optional[str]:
    """Where the source is that is asked for; of one on another host how it is called."""
    place = item.spec.source.place if item.spec.source else None
    return (place.path or place.text) if place else None


# --- the base


def _base(seen: state.BaseReading, by_path: t.Mapping[str, Item], named: Named) -> state.BaseReading:
    """C(seen) as it will be, and what it will be built on."""
    base = by_path.get(named.get(seen.path, ""))
    if base is not None and base.plan and base.after.exists:
        seen = _changed(seen, base)
    chain = seen.in_chain_of or (seen.path,)
    for place, path in enumerate(chain):
        link = by_path.get(named.get(path, ""))
        if link is not None and goes_on_elsewhere(link):
            return _goes_on(seen, chain[: place + 1], link)
    return seen


def _changed(seen: state.BaseReading, base: Item) -> state.BaseReading:
    """The file that is there, as C(base.plan) leaves it; or the new one."""
    written = any(action.writes_content for action in base.plan)
    seen = replace(seen, virtual_size=base.after.virtual_size, fingerprint=None if written else seen.fingerprint)
    if seen.exists and not any(action.replaces_file for action in base.plan):
        return seen
    return replace(
        seen,
        exists=True,
        detected=() if base.after.format == "raw" else (base.after.format,),
        chain_problem=None,  # of what it is copied from with its base, that was looked at by its own plan
        opening_problem=None,
        in_chain_of=(seen.path, *base.reading.chain[1:]),
    )


def goes_on_elsewhere(link: Item) -> bool:
    """Whether the chain below this image will be another than the one that was looked at."""
    return bool(link.plan) and (not link.before.exists or link.after.backing != link.before.backing)


def _goes_on(seen: state.BaseReading, chain: t.Tuple[str, ...], link: Item) -> state.BaseReading:
    """C(seen), whose C(chain) as far as C(link) stays. What was wrong was wrong with the end that goes."""
    below = link.reading.base if link.after.backing else None
    kept = seen.opening_problem if len(chain) > 1 else None  # it may lie above the link
    return replace(
        seen,
        chain_problem=below.chain_problem if below else None,
        opening_problem=kept or (below.opening_problem if below else None),
        in_chain_of=chain + (below.in_chain_of if below else ()),
    )


# --- the source


def _refuse_another_format(item: Item, source: t.Optional[Item]) -> None:
    """A source that this task makes, or makes something else of, is then what the task says of it."""
    asked = item.spec.source
    if source is None or not source.plan or not source.after.exists or source.after.format == asked.format:
        return
    if not item.before.exists or asked.policy == "if_changed":
        raise refuse.refused(
            item.spec,
            "format_mismatch",
            "its source %s is declared %s, and this task makes it %s"
            % (source.name, asked.format, source.after.format),
            "Set source.format to what it is then; or import it in a task before this one.",
            {"asked": asked.format, "found": [source.after.format]},
        )


def _follows(item: Item, source: Item) -> bool:
    """Whether the image is as its source is now, and is to follow it: what it holds is not changed before the source is.

    A checksum in the task says what the source is to be, whatever becomes of the image there.
    """
    asked, known = item.spec.source, item.before.source or ""
    proven = bool(asked.checksum and known and difference.of_one_kind(asked.checksum, known))
    same = item.reading.source is not None and item.reading.source.changed is False
    changes = source.after.exists and any(action.writes_content for action in source.plan)
    return bool(asked.policy == "if_changed" and same and changes and not proven)
