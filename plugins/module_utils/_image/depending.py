# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Who is built on the files that plans change or remove, and whether it leaves them in the same task. Read-only."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, words
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._image import actions, backups, data_file, refuse
from ansible_collections.platter.qemu.plugins.module_utils._inspect import block_use, dependents, members, named_files

if t.TYPE_CHECKING:
    from ansible_collections.platter.qemu.plugins.module_utils._inspect import vm_definitions

#: the images built on each file that is to be changed
Found = t.Mapping[str, t.Sequence[str]]
Needs = t.Mapping[str, t.AbstractSet[str]]
_WHOLE = (actions.CreateImage, actions.ImportImage, actions.RewriteImage)


def writes_existing(item: Item) -> bool:
    """Whether the plan changes the bytes of, replaces or removes an image that is there."""
    there = item.before.exists or item.reading.kind == "block"
    return there and any(action.writes_content for action in item.plan)


# --- which files


def opened_files(item: Item) -> t.List[str]:
    """The image and the files that hold its content: who uses one of them uses the image."""
    if removes(item):  # what is no file of its own stays as it is
        return own_files(item)
    data = _data_file(item)
    return members.extent_paths(item.spec.path, item.reading.header) + ([data] if data else [])


def own_files(item: Item) -> t.List[str]:
    """Those that go with the image: a data file only if we made it for the image."""
    data = _data_file(item)
    own = [data] if data and data_file.is_of(data, item.spec.name) else []
    return members.member_paths(item.spec.path, item.reading.header) + own


def taken_along(items: t.Sequence[Item], paths: t.Iterable[str]) -> t.Dict[str, str]:
    """Which of C(items) each of C(paths) goes with when all of them are removed, or replaced."""
    going: t.Dict[t.Any, str] = {}
    for item in items:
        going.update({block_use.identity_of(path): item.name for path in own_files(item)[1:]})
    going.pop(None, None)
    known = {path: block_use.identity_of(path) for path in paths}
    return {path: going[which] for path, which in known.items() if which in going}


def changed_files(item: Item) -> t.List[str]:
    """The image, and the other files whose content the plan changes or removes."""
    if any(isinstance(action, _WHOLE) for action in item.plan):
        return own_files(item)
    return opened_files(item)


def removes(item: Item) -> bool:
    """Whether the image goes."""
    return any(isinstance(action, actions.RemoveImage) for action in item.plan)


def _data_file(item: Item) -> t.Optional[str]:
    header = item.reading.header
    return header.data_file if header and header.data_file and header.data_file.startswith("/") else None


# --- who builds on them


def overlays_of(items: t.Sequence[Item], named: t.Sequence[vm_definitions.Named] = ()) -> Found:
    """What is built on each file that is to be changed, by one look through the directories of the task: those that
    headers name may be any, such as that of a pseudo file system. And what is known to be built on it wherever it is,
    as the images of VMs are (C(named)).
    """
    touched = [path for item in items if writes_existing(item) for path in changed_files(item)]
    new = [item.spec.path for item in items if _is_new(item)]
    try:
        return _find([*touched, *new], items, _images_of(named))
    except errors.EngineError:
        if touched:
            raise
        return {}  # for a warning only: nobody has to be able to read what else lies there


def _images_of(named: t.Sequence[vm_definitions.Named]) -> t.Iterable[str]:
    if not named:
        return ()
    from ansible_collections.platter.qemu.plugins.module_utils._inspect import vm_images

    return vm_images.images_of(named)


def _find(touched: t.Sequence[str], items: t.Sequence[Item], others: t.Iterable[str]) -> Found:
    if not touched:
        return {}
    named = {name for item in items for name in item.spec.overlay_directories}
    directories = named | {os.path.dirname(item.spec.path) for item in items}
    known = dict.fromkeys([*(path for item in items for path in _known_images(item)), *others])
    return dependents.find_dependents(
        touched, sorted(directories), named_files.recorded_base, also=known, with_devices=named
    )


def _is_new(item: Item) -> bool:
    return bool(item.plan) and not item.refusal and item.reading.kind == "absent"


def warn_of_orphans(items: t.Sequence[Item], found: Found) -> None:
    """What takes the place of a base that is gone is what overlays show from now on, whatever they were made on."""
    gone = {block_use.identity_of(item.spec.path) for item in items if removes(item) and not item.refusal}
    for item in (item for item in items if _is_new(item)):
        orphans = [path for path in found.get(item.spec.path, ()) if block_use.identity_of(path) not in gone]
        if orphans:
            item.warnings.append(
                "%s is made anew under %s made on the one that is gone (%s). What they show is wrong unless it has the very"
                " content of that: bring that back, or remove them."
                % (item.name, words.counted(len(orphans), "overlay"), ", ".join(orphans[:5]))
            )


def _known_images(item: Item) -> t.Iterator[str]:
    """Those that the task reads, and those that a file which is to be changed says are built on it."""
    reading = item.reading
    if reading.kind == "block":
        yield item.spec.path
    yield from reading.chain
    for other in (reading.base and reading.base.in_chain_of, reading.source and reading.source.chain):
        yield from other or ()
    if writes_existing(item):
        yield from named_files.told_by(reading.record)


def guard_bases(
    items: t.Sequence[Item], found: Found, needs: Needs, named: t.Sequence[vm_definitions.Named] = ()
) -> bool:
    """Refuse what overlays stay on; whether anything was refused. C(named): what VMs are defined with."""
    refused = False
    listed = {block_use.identity_of(item.spec.path): item for item in items} if any(found.values()) else {}
    for item in (item for item in items if writes_existing(item) and not item.refusal):
        for path in changed_files(item):
            overlays = [o for o in found.get(path, ()) if not _is_done_with(o, item, path, listed, needs)]
            if overlays and not item.refusal:
                refused, item.refusal = True, _has_overlays(item, path, overlays, listed, named)
    return refused


def _is_done_with(overlay: str, item: Item, path: str, listed: t.Mapping[t.Any, Item], needs: Needs) -> bool:
    """Whether C(overlay), which is built on C(path) now, is the image itself, or is none any more when that is changed."""
    other = listed.get(block_use.identity_of(overlay))
    if other is None or other is item:
        return other is item
    before = path == item.spec.path and other.name in needs.get(item.name, ())
    return before and _leaves(other, overlay, block_use.identity_of(path))


def _leaves(item: Item, name: str, base: t.Any) -> bool:
    """Whether the plan of the image, found as C(name), takes it off the file C(base)."""
    if item.refusal or not item.plan:
        return False
    other = item.after.backing.path if item.after.backing else None
    onto_it = other is not None and block_use.identity_of(other) == base
    if _keeps_backup(item):
        return False
    if removes(item) or any(isinstance(action, _WHOLE) for action in item.plan):
        return not onto_it and (item.reading.nlink == 1 or name == item.spec.path)
    rebased = any(isinstance(action, actions.RebaseImage) for action in item.plan)
    return rebased and not onto_it and base not in map(block_use.identity_of, opened_files(item)[1:])


def _keeps_backup(item: Item) -> bool:
    """Whether the file of before stays under another name, and on what it is built on."""
    repaired = any(isinstance(action, actions.RepairImage) and action.replaces_file for action in item.plan)
    return repaired or (item.spec.backup and (removes(item) or any(isinstance(a, _WHOLE) for a in item.plan)))


def _has_overlays(
    item: Item,
    path: str,
    overlays: t.Sequence[str],
    listed: t.Mapping[t.Any, Item],
    named: t.Sequence[vm_definitions.Named],
) -> errors.RefusedError:
    counted = words.counted(len(overlays), "other image")
    what = "it is the backing file of %s" % counted
    if item.reading.record.get("data_of") in overlays:
        what = "it is the data file of %s" % counted
    if path != item.spec.path:
        what = "its file %s is used by %s" % (path, counted)
    fact, evidence = "%s: %s" % (what, ", ".join(overlays[:5])), {"overlays": list(overlays)}
    way_out = _way_out_of_backups(overlays, listed) or _way_out(item, overlays)
    if named and removes(item):
        return _removal_refused(item, fact, way_out, evidence, named)
    return refuse.refused(item.spec, "has_overlays", fact, way_out, evidence)


def _removal_refused(
    item: Item, fact: str, way_out: str, evidence: t.Dict[str, t.Any], named: t.Sequence[vm_definitions.Named]
) -> errors.RefusedError:
    """With the VMs that have what is built on the image: their images are refused as well (C(image_claimed))."""
    from ansible_collections.platter.qemu.plugins.module_utils._inspect import vm_images

    having = vm_images.on_these(named, evidence["overlays"])
    if having:
        fact += "; " + vm_images.having_disks(having)
        way_out = "%s. %s" % (vm_images.REMOVE_VMS, way_out)
        evidence = {**evidence, "vms": [vm_images.evidence(each) for each in having]}
    return refuse.refused(item.spec, "has_overlays", fact, way_out, evidence)


def _way_out_of_backups(overlays: t.Sequence[str], listed: t.Mapping[t.Any, Item]) -> str:
    """Empty where they stay for another reason."""
    others = [listed.get(block_use.identity_of(path)) for path in overlays]
    kept = [other.name for other in others if other and not other.refusal and _keeps_backup(other)]
    if len(kept) < len(overlays):
        return ""
    return "What %s was before stays, as its backup: leave backup out there, or keep this image." % kept[0]


def _way_out(item: Item, overlays: t.Sequence[str]) -> str:
    """A backup that is built on the image is not looked for by who made it: said by its name."""
    made = [path for path in overlays if backups.is_backup(path)]
    ours = "%s is a backup, by its name: remove it, if it is not needed any more. " % made[0] if made else ""
    if len(made) == len(overlays) == 1:
        return ours.strip()
    if removes(item):
        return ours + "Remove those images too, in the same list; or rebase or flatten them first."
    return ours + "Rebase or flatten those first; or make a new image under another name."
