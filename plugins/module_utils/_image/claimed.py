# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Which VMs are defined with an image that is to go, or to become another one. Read-only.

Nobody has the image of a stopped VM open, and its next start would find nothing, or something else than it expects.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._formats import registry
from ansible_collections.platter.qemu.plugins.module_utils._image import actions, depending, refuse
from ansible_collections.platter.qemu.plugins.module_utils._inspect import block_use, vm_definitions

Known = t.Mapping[t.Any, t.Sequence[vm_definitions.Named]]


def guard(items: t.Sequence[Item], named: t.Iterable[vm_definitions.Named]) -> None:
    """Refuse the removal of what a VM is defined with, and an import that puts another format there; warn where the image
    itself becomes one of another format.
    """
    known = _by_identity(named)
    for item in items:
        _judge(item, known)


def _by_identity(named: t.Iterable[vm_definitions.Named]) -> Known:
    found: t.Dict[t.Any, t.List[vm_definitions.Named]] = {}
    for each in named:
        found.setdefault(block_use.identity_of(each.path), []).append(each)
    found.pop(None, None)
    return found


def _judge(item: Item, known: Known) -> None:
    removed = any(isinstance(action, actions.RemoveImage) for action in item.plan)
    making = next((a for a in item.plan if isinstance(a, (actions.ImportImage, actions.RewriteImage))), None)
    for path, each in _claims(item, known):
        if removed:
            item.refusal = _refused(item, path, each, "which would not find it when it starts")
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


def _claims(item: Item, known: Known) -> t.Iterator[t.Tuple[str, vm_definitions.Named]]:
    """What VMs have of the files that go. Of several names of a file only the last takes the content along."""
    for path in depending.own_files(item):
        for each in known.get(block_use.identity_of(path), ()):
            if item.reading.nlink == 1 or os.path.realpath(each.path) == os.path.realpath(path):
                yield path, each


def _expects_another(named: vm_definitions.Named, format: str) -> bool:
    return named.format in registry.FORMAT_NAMES and named.format != format


def _refused(item: Item, path: str, named: vm_definitions.Named, then: str) -> errors.RefusedError:
    what = "it" if path == item.spec.path else "its file %s" % path
    fact = "%s is drive %s of VM %s (defined in %s), %s" % (what, named.drive, named.vm, named.config, then)
    way_out = "Have that VM give up the drive first (qemu_drive with state: absent, for the drive or for the VM)."
    evidence = {"vm": named.vm, "config": named.config, "drive": named.drive, "place": named.path}
    return refuse.refused(item.spec, "image_claimed", fact, way_out, evidence)
