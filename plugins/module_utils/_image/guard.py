# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Looks, before anything is changed, at who uses an image and who builds on it. Read-only."""

from __future__ import annotations

import os
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, Patience, not_begun
from ansible_collections.platter.qemu.plugins.module_utils._image import (
    actions,
    depending,
    foretell,
    plan_change,
    refuse,
    secret,
    space,
    target,
)
from ansible_collections.platter.qemu.plugins.module_utils._inspect import holders, waiting
from ansible_collections.platter.qemu.plugins.module_utils._tools import process
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg

if t.TYPE_CHECKING:
    from ansible_collections.platter.qemu.plugins.module_utils._inspect import vm_definitions

Needs = t.Mapping[str, t.AbstractSet[str]]
Holders = t.Mapping[str, t.List[holders.Holder]]


def guard(
    items: t.Sequence[Item],
    needs: Needs,
    patience: t.Optional[Patience],
    run_command: process.RunCommand,
    qemu_img: QemuImg,
) -> bool:
    """Turn plans that would touch what is in use, or is a base of others, into refusals (or skips).

    C(needs): the images that are done with before each. True when it has waited: then everything has to be looked at
    anew.
    """
    local = [item for item in items if item.spec.place is None]
    _guard_places(local)
    _guard_led(local)
    named = _named_by_vms(local)
    overlays = depending.overlays_of(local, named)
    depending.guard_bases(local, overlays, needs, named)
    waited = _guard_holders(local, patience)
    _guard_claimed(local, named)
    while depending.guard_bases(local, overlays, needs, named):  # what is refused or skipped keeps its base
        pass
    depending.warn_of_orphans(local, overlays)
    _guard_secrets(local, run_command)
    _guard_content(local, qemu_img)
    _guard_sources(items)
    space.guard_space(items)
    return waited


# --- who can put something else there


def _guard_places(items: t.Sequence[Item]) -> None:
    for item in items:
        if item.plan and not item.refusal and item.reading.kind != "block":
            item.refusal = target.refusal_of_owned_directory(item.spec, item.plan, item.reading.own_data_file)


# --- where it leads


def _guard_led(items: t.Sequence[Item]) -> None:
    """Who can write to an image chooses what root's QEMU opens with it: only what that user can open too."""
    if os.geteuid() != 0:  # an ordinary user's task can do no more than that user
        return
    for item in items:
        opening = [action for action in item.plan if action.opens_image and action.writes_content]
        if not opening or item.refusal or item.reading.header is None:
            continue
        try:
            item.refusal = _refusal_of_leading(item, opening, items)
        except errors.EngineError as exc:
            item.refusal = not_begun(exc)


def _refusal_of_leading(
    item: Item, opening: t.Sequence[t.Any], items: t.Sequence[Item]
) -> t.Optional[errors.RefusedError]:
    from ansible_collections.platter.qemu.plugins.module_utils._image import led

    header = item.reading.header
    changes = any(not isinstance(action, actions.RewriteImage) for action in opening)
    below = any(action.reads_below(header.options.get("cluster_size")) for action in opening)
    renamed = plan_change.renamed_base(item.plan)
    refusal = led.refusal(item.spec, header, changes=changes, below=below and renamed is None)
    bases = [action.backing for action in opening if isinstance(action, actions.RebaseImage) and action.backing]
    if refusal or not bases or not below:
        return refusal
    planned = {led.which(other.name): other.after.backing for other in items if foretell.goes_on_elsewhere(other)}
    return led.refusal_of_base(item.spec, bases[0], planned)


# --- who uses it


def _guard_holders(items: t.Sequence[Item], patience: t.Optional[Patience]) -> bool:
    touched = [i for i in items if (i.reading.locked or depending.writes_existing(i)) and not i.refusal]
    touched = [item for item in touched if not _grows_live(item)]
    waited = waiting.wait_until_free(touched, patience, _held, _in_use)
    left = [i for i in touched if i.reading.locked and not i.refusal and "skipped_reason" not in i.notes]
    for item in [] if patience else left:  # nobody is seen to have it: it may be what it is built on
        waiting.give_up(item, [], "another process (qemu-img: %s)" % item.reading.locked, _in_use)
    return waited or bool(patience and left)


def _grows_live(item: Item) -> bool:
    """Whether it only grows, and the task's QEMU, which does that while its guest runs, is the only one that has it."""
    growing = [action for action in item.plan if isinstance(action, actions.ResizeImage) and not action.shrink]
    if not item.spec.qmp_socket or not growing or len(growing) < len(item.plan):
        return False
    if not _held([item])[item.name]:
        return False
    from ansible_collections.platter.qemu.plugins.module_utils._image import live

    try:
        found = live.find(item.spec)
    except errors.EngineError as exc:
        item.refusal = not_begun(exc)
        return True
    if found is None or _held_by_others(item, found.pids):
        return False
    item.reading = replace(item.reading, live=found)
    return True


def _held_by_others(item: Item, pids: t.AbstractSet[int]) -> bool:
    """By others than these processes."""

    def look() -> Holders:
        return {item.name: [use for use in _held([item])[item.name] if use.pid not in pids]}

    return bool(waiting.lasting(look)[item.name])


def _held(items: t.Sequence[Item]) -> t.Dict[str, t.List[holders.Holder]]:
    opened = {item.name: depending.opened_files(item) for item in items}
    found = holders.find_holders(sorted({path for paths in opened.values() for path in paths}))
    for path in (path for paths in opened.values() for path in paths[1:]):
        found[path] = [replace(holder, detail=holder.detail or path) for holder in found[path]]
    return {name: [holder for path in paths for holder in found[path]] for name, paths in opened.items()}


def _in_use(item: Item, text: str, evidence: t.Mapping[str, t.Any]) -> errors.RefusedError:
    waits = item.spec.on_in_use == "wait"
    others = "raise wait_timeout, or set on_in_use to skip" if waits else "or set on_in_use to wait or skip"
    return refuse.refused(
        item.spec, "image_in_use", "it is in use by %s" % text, "Stop what uses it, %s." % others, evidence
    )


# --- whose drive it is


def _named_by_vms(items: t.Sequence[Item]) -> t.Sequence[vm_definitions.Named]:
    """What VMs are defined with. It is looked for only where something changes that is there."""
    changing = [item for item in items if not item.refusal and depending.writes_existing(item)]
    if not changing:
        return ()
    from ansible_collections.platter.qemu.plugins.module_utils._inspect import vm_images

    return vm_images.named_for(changing)


def _guard_claimed(items: t.Sequence[Item], named: t.Sequence[vm_definitions.Named]) -> None:
    """A VM that is stopped has its images all the same."""
    if named:
        from ansible_collections.platter.qemu.plugins.module_utils._image import claimed

        claimed.guard(_going(items), named)
        claimed.guard_bases(
            [i for i in items if not i.refusal and depending.writes_existing(i) and not depending.removes(i)], named
        )


def _going(items: t.Sequence[Item]) -> t.List[Item]:
    return [item for item in items if not item.refusal and any(_ends(action) for action in item.plan)]


def _ends(action: t.Any) -> bool:
    """Whether the file that has the name now has it no more."""
    return isinstance(action, (actions.RemoveImage, actions.ImportImage, actions.RewriteImage))


# --- whether it opens


def _guard_secrets(items: t.Sequence[Item], run_command: process.RunCommand) -> None:
    for item in items:
        opened = any(action.opens_image and action.writes_content for action in item.plan)
        if not opened or item.refusal or item.reading.header is None:
            continue
        try:
            secret.refuse_closed(run_command, item.spec, item.reading.header, _file_node(item))
            for action in item.plan:
                if isinstance(action, actions.ChangeKeyslots):
                    secret.refuse_losing_access(run_command, item.spec, item.reading.header, action)
        except errors.EngineError as exc:
            item.refusal = not_begun(exc)


def _file_node(item: Item) -> t.Dict[str, t.Any]:
    return {"driver": "host_device" if item.reading.kind == "block" else "file", "filename": item.spec.path}


# --- whether it is whole


def _guard_content(items: t.Sequence[Item], qemu_img: QemuImg) -> None:
    copied = [item for item in items if not item.refusal and any(_copies_whole(action) for action in item.plan)]
    if not copied:
        return
    from ansible_collections.platter.qemu.plugins.module_utils._image import content

    content.guard_content(copied, items, qemu_img)


def _copies_whole(action: t.Any) -> bool:
    """Whether what the guest reads is copied, and the old file or the base then given up."""
    return isinstance(action, actions.RewriteImage) or (isinstance(action, actions.RebaseImage) and action.safe)


# --- who writes to what is read


def _guard_sources(items: t.Sequence[Item]) -> None:
    sources = {item.name: path for item in items if not item.refusal for path in [_source(item)] if path}
    found = waiting.lasting(lambda: _writers(sorted(set(sources.values())))) if sources else {}
    for item in items:
        writers = found.get(sources.get(item.name, ""), [])
        if writers:
            item.refusal = _being_written(item, sources[item.name], writers)


def _writers(paths: t.Sequence[str]) -> Holders:
    found = holders.find_holders(paths)
    return {path: [holder for holder in found[path] if holder.writes is not False] for path in paths}


def _source(item: Item) -> t.Optional[str]:
    """A local file whose content an action relies on: the source of an import, or a new backing file."""
    for action in item.plan:
        if isinstance(action, actions.ImportImage):
            return action.source.place.path if action.source.place else None
        if getattr(action, "backing", None) and item.spec.backing:
            return str(item.spec.backing.path)
    return None


def _being_written(item: Item, path: str, writers: t.List[holders.Holder]) -> errors.RefusedError:
    return refuse.refused(
        item.spec,
        "image_in_use",
        "%s, which it is made from, is being written by %s" % (path, ", ".join(str(holder) for holder in writers[:5])),
        "Stop what writes to it.",
        {"source": path, "in_use_by": [holder.to_facts() for holder in writers]},
    )
