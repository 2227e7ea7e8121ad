# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What the images of VMs mean for those who change images: nobody has the image of a stopped VM open. Read-only."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, not_begun
from ansible_collections.platter.qemu.plugins.module_utils._inspect import opening, vm_definitions

Named = vm_definitions.Named


def named_for(items: t.Sequence[Item]) -> t.Sequence[Named]:
    """What all VMs are defined with, read once for C(items), whose images are to be changed. Where a definition cannot be
    read, each of these is refused.
    """
    try:
        return vm_definitions.named_files()
    except errors.EngineError as exc:
        for item in items:
            item.refusal = not_begun(exc)
        return ()


def images_of(named: t.Iterable[Named]) -> t.Iterator[str]:
    """The images that VMs are defined with, and those below them: each of these can be built on what is to be changed. What a
    VM has as raw is not: QEMU takes none of its bytes for a header, which its guest could have written.
    """
    for each in named:
        if each.format != "raw":
            yield each.path
        if each.format and opening.names_others(each.format):
            yield from (below.path for below in opening.opened_with(each.path, each.format, below=True))
