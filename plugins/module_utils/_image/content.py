# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Looks, before images are rewritten, flattened or rebased, whether what is copied is whole: afterwards zeros would stand
for what is missing, and the file that could tell would be gone. Read-only.
"""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._formats import features
from ansible_collections.platter.qemu.plugins.module_utils._image import actions, refuse
from ansible_collections.platter.qemu.plugins.module_utils._inspect import chain, damage, image
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg


def guard_content(copied: t.Sequence[Item], items: t.Sequence[Item], qemu_img: QemuImg) -> None:
    """Refuse those of C(copied) of which something that is read is damaged; many overlays of one base check it once.

    C(items): all of the task, as what is replaced or repaired before is another file then.
    """
    renewed = {item.name for item in items if any(action.replaces_file for action in item.plan)}
    known: t.Dict[t.Tuple[str, str], t.Optional[damage.Damage]] = {}
    for item in copied:
        header = item.reading.header
        found = _own_damage(item, header, qemu_img) if header else None
        for path, below in _bases(item) if not found else ():
            if path in renewed:
                break
            if (path, below.format) not in known:
                known[path, below.format] = damage.damage_alone(qemu_img, path, below)
            found = found or _in_base(item, path, known[path, below.format])
        item.refusal = found


def _bases(item: Item) -> t.Iterator[t.Tuple[str, Header]]:
    """What lies below the image now, and below the base that it is to get: each as QEMU takes it."""
    header = item.reading.header
    if header and header.backing_file:
        yield from _links(item.spec.path, header.format, 1)
    for action in item.plan:
        if isinstance(action, actions.RebaseImage) and action.safe and action.backing:
            yield from _links(action.backing.path, action.backing.format, 0)


def _links(path: str, format_name: t.Optional[str], first: int) -> t.Iterator[t.Tuple[str, Header]]:
    for link in chain.walk_chain(path, format_name, image.chain_header).links[first:]:
        if link.header:
            yield link.path, link.header


def _own_damage(item: Item, header: Header, qemu_img: QemuImg) -> t.Optional[errors.RefusedError]:
    found = damage.damage_alone(qemu_img, item.spec.path, header, item.spec.secrets)
    if found is None or _is_repaired(item):
        return None
    if features.FEATURES[header.format].repair:
        fact, way_out = "%s, and a copy would be made only of what can be read", "Repair it first, in a task of its own"
        way_out += " with repair set to all, which keeps the damaged file; or restore it from a copy."
        return refuse.refused(item.spec, "image_corrupt", fact % found.fact, way_out, found.report)
    return refuse.refused(item.spec, "image_damaged", found.fact, "Restore it from a copy.", found.report)


def _is_repaired(item: Item) -> bool:
    return isinstance(item.plan[0], actions.RepairImage) and item.plan[0].replaces_file


def _in_base(item: Item, path: str, found: t.Optional[damage.Damage]) -> t.Optional[errors.RefusedError]:
    if found is None:
        return None
    fact = "%s, which is in its backing chain, is damaged: %s" % (path, found.fact)
    return refuse.refused(item.spec, "image_damaged", fact, "Restore that from a copy.", found.report)
