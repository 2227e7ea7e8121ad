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
from ansible_collections.platter.qemu.plugins.module_utils._inspect import vm_images
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import clones, layer_actions, merge_actions, refuse


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
    layers = {**item.reading.layers, **{each.path: each for each in item.reading.unused}}
    names = layers[path].names if path in layers else 1
    return (each for each in claims.on(path, names=names) if not _follows(item, each))


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
