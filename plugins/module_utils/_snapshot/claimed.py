# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Which VMs are defined with a file of a disk that is to go. Nobody has that of a stopped VM open. Read-only."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._inspect import block_use, dependents, named_files, vm_images
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import clones, layer_actions, merge_actions, refuse
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import SnapshotReading


class _Gone(t.NamedTuple):
    """A file that goes. C(moved): where the disk is then, if that was in it."""

    path: str
    moved: t.Optional[str] = None


def guard(items: t.Sequence[Item], named: t.Iterable[vm_images.Named]) -> None:
    """Refuse plans by which a file goes that a VM is defined with; warn where the disk itself is in another one then."""
    claims = vm_images.Claims(named)
    for item in items:
        for gone in (each for action in item.plan for each in _gone(action)):
            for each in _claimed(item, gone.path, claims):
                if gone.moved is None:
                    item.refusal = item.refusal or _refused(item, gone.path, each)
                else:
                    item.warnings.append(_warning(item, gone, each))


def guard_bases(items: t.Sequence[Item], named: t.Iterable[vm_images.Named]) -> None:
    """Refuse plans that write to what a VM has below an image of its own by the definition alone: that of the disk itself
    has its layers so, and goes with them.
    """
    claims = vm_images.Claims(named)
    for item in items:
        own = (item.before.active, *item.reading.layers)
        below = next(filter(None, (claims.below(path, own) for path in sorted(_harmed(item)))), None)
        if below and not item.refusal:
            item.refusal = refuse.refused(item.spec, *vm_images.based("its file %s" % below.path, below))


def refuse_new(spec: SnapshotSpec, action: t.Any, reading: SnapshotReading, new: t.Sequence[vm_images.Named]) -> None:
    """Before files are harmed, by what VMs have come to be defined with. Raises RefusedError (has_overlays)."""
    own = [path for layer in reading.layers.values() for path in (layer.path, *layer.children)]
    for path, overlays in _built_on(clones.harmed(action), own, new).items():
        if overlays:
            raise clones.has_overlays(spec, path, overlays)


def users(action: t.Any, reading: SnapshotReading, new: t.Sequence[vm_images.Named]) -> t.List[str]:
    """What of VMs has a file that goes with C(action): drives, but where the disk itself moves, and images built on it."""
    gone, claims = list(_gone(action)), vm_images.Claims(new)
    staying = [each.path for each in gone if each.moved is None]
    drives = [named for path in staying for named in claims.on(path, names=_names(reading, path))]
    built = _built_on([each.path for each in gone], list(reading.layers), new)
    found = ["drive %s of VM %s, defined in %s" % (named.drive, named.vm, named.config) for named in drives]
    return found + [each for overlays in built.values() for each in overlays]


def _built_on(
    paths: t.Sequence[str], own: t.Sequence[str], named: t.Sequence[vm_images.Named]
) -> t.Dict[str, t.List[str]]:
    """The images of VMs on each that are none of the disk's C(own), by their headers or by the definition."""
    if not named:
        return {}
    known, claims = {block_use.identity_of(path) for path in own}, vm_images.Claims(named)
    found = dependents.find_dependents(paths, (), named_files.recorded_base, also=vm_images.images_of(named))
    for path in paths:
        below = claims.below(path, own)
        found[path] = [each for each in found[path] if block_use.identity_of(each) not in known]
        found[path] += [below.over or below.config] if below else []
    return found


def _harmed(item: Item) -> t.Set[str]:
    if not item.spec.external:
        return {str(item.before.active)}
    return {path for action in item.plan for path in clones.harmed(action)}


def _gone(action: t.Any) -> t.Iterator[_Gone]:
    if isinstance(action, merge_actions.CommitOverlay):
        moved = action.base if action.active == action.base else None
        yield _Gone(action.base) if action.renames else _Gone(action.overlay, moved)
    elif isinstance(action, merge_actions.FinishMerge):
        yield _Gone(action.overlay, action.base)
    elif isinstance(action, merge_actions.StreamBase) and not action.keeps:
        yield _Gone(action.base)
    elif isinstance(action, layer_actions.RemoveUnused):
        yield _Gone(action.overlay)
    elif isinstance(action, merge_actions.RemoveLayer):
        yield _Gone(str(action.point.path))


def _claimed(item: Item, path: str, claims: vm_images.Claims) -> t.Iterator[vm_images.Named]:
    names = _names(item.reading, path)
    return (each for each in claims.on(path, names=names) if not _follows(item, each))


def _names(reading: SnapshotReading, path: str) -> int:
    layers = {**reading.layers, **{each.path: each for each in reading.unused}}
    return layers[path].names if path in layers else 1


def _follows(item: Item, named: vm_images.Named) -> bool:
    """Whether it is the image's own name, a symbolic link, which is led to where the disk is then."""
    return item.before.link is not None and _place(named.path) == _place(item.spec.image)


def _place(path: str) -> str:
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def _refused(item: Item, path: str, named: vm_images.Named) -> errors.RefusedError:
    fact = vm_images.claimed("its file %s" % path, named, vm_images.NOT_FOUND)
    of_now = "; or define it with the disk of now, %s" % item.before.active
    return refuse.refused(item.spec, "image_claimed", fact, vm_images.GIVE_UP + of_now + ".", vm_images.evidence(named))


def _warning(item: Item, gone: _Gone, named: vm_images.Named) -> str:
    return (
        "The disk of %s is in %s then, and VM %s is defined with %s (drive %s, in %s): define that drive anew (qemu_drive)"
        " before the VM is started." % (item.name, gone.moved, named.vm, gone.path, named.drive, named.config)
    )
