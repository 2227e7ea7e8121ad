# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Which VMs are defined with an image that is to go, or to become another one. Read-only.

Nobody has the image of a stopped VM open, and its next start would find nothing, or something else than it expects.
"""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._formats import registry
from ansible_collections.platter.qemu.plugins.module_utils._image import actions, depending, refuse
from ansible_collections.platter.qemu.plugins.module_utils._inspect import vm_images


def guard(items: t.Sequence[Item], named: t.Iterable[vm_images.Named]) -> None:
    """Refuse the removal of what a VM is defined with, and an import that puts another format there; warn where the image
    itself becomes one of another format.
    """
    claims = vm_images.Claims(named)
    for item in items:
        _judge(item, claims)


def guard_bases(items: t.Sequence[Item], named: t.Iterable[vm_images.Named]) -> None:
    """Refuse what changes the bytes of what a VM has below an image of its own by the definition alone, and what is put in
    its place: a header that names it is not needed then. C(guard) has judged what is removed.
    """
    claims = vm_images.Claims(named)
    for item in items:
        own = depending.opened_files(item)
        for path in depending.changed_files(item):
            below = claims.below(path, own)
            if below and not item.refusal:
                what = "it" if path == item.spec.path else "its file %s" % path
                item.refusal = refuse.refused(item.spec, *vm_images.based(what, below))


def _judge(item: Item, claims: vm_images.Claims) -> None:
    removed = any(isinstance(action, actions.RemoveImage) for action in item.plan)
    making = next((a for a in item.plan if isinstance(a, (actions.ImportImage, actions.RewriteImage))), None)
    for path, each in _claimed(item, claims):
        if removed:
            item.refusal = _refused(item, path, each, vm_images.NOT_FOUND)
            return
        if making is None or not _expects_another(each, making.format):
            continue
        if isinstance(making, actions.ImportImage):
            expected = "which expects %s there, and not %s" % (each.format, making.format)
            item.refusal = _refused(item, path, each, expected)
            return
        item.warnings.append(
            "%s becomes %s, and VM %s is defined with it as %s (drive %s, in %s): define that drive anew (qemu_drive) before"
            " the VM is started." % (item.name, making.format, each.vm, each.format, each.drive, each.config)
        )


def _claimed(item: Item, claims: vm_images.Claims) -> t.Iterator[t.Tuple[str, vm_images.Named]]:
    """What VMs have of the files that go."""
    for path in depending.own_files(item):
        for each in claims.on(path, names=item.reading.nlink):
            yield path, each


def _expects_another(named: vm_images.Named, format: str) -> bool:
    return named.format in registry.FORMAT_NAMES and named.format != format


def _refused(item: Item, path: str, named: vm_images.Named, then: str) -> errors.RefusedError:
    what = "it" if path == item.spec.path else "its file %s" % path
    fact = vm_images.claimed(what, named, then)
    return refuse.refused(item.spec, "image_claimed", fact, vm_images.GIVE_UP + ".", vm_images.evidence(named))
