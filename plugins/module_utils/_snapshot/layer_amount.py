# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""How much data a layer holds itself, which is what a merge copies. Read-only."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._inspect import chain, image, leading
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import Amount
from ansible_collections.platter.qemu.plugins.module_utils._tools import files
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg, image_node

Extent = t.Mapping[str, t.Any]


def data_in(qemu_img: QemuImg, seen: image.Seen, written: bool) -> Amount:
    """The data in the file itself, not in its base. C(written): a running QEMU writes to it.

    Such a QEMU keeps the tables of what it writes in its memory, and they say less on the disk. But each cluster of data
    has its place in the file, so there is no more of it than the file is long.
    """
    extents = _own_data(qemu_img, seen)
    if extents is not None and not written:
        return Amount(sum(int(extent["length"]) for extent in extents))
    return Amount(_most(seen, extents or ()), at_most=True)


def _own_data(qemu_img: QemuImg, seen: image.Seen) -> t.Optional[t.List[Extent]]:
    """None where it cannot be read: without its key, where its header leads to what its writers cannot read, or while a
    QEMU commits it (not even C(--force-share) helps).
    """
    header = t.cast(t.Any, seen.header)
    if header.encrypted or _leads_astray(seen.facts.path, header):
        return None
    node = image_node(header.format, files.local_node(seen.facts))
    if header.backing_file:  # what it names is nobody's business here
        node["backing"] = None
    try:
        found = qemu_img.map(node)
    except errors.ImageLockedError:
        return None
    return [extent for extent in found if extent["depth"] == 0 and extent["data"]]


def _leads_astray(path: str, header: Header) -> bool:
    if not any(chain.beside(path, header)):
        return False
    if chain.chain_problem(path, header, image.chain_header):
        return True
    return os.geteuid() == 0 and any(step.closed_to(write=False) for step in leading.steps(path, header, below=False))


def _most(seen: image.Seen, extents: t.Iterable[Extent]) -> int:
    """Bytes. Compressed clusters, those without an offset of their own, are longer than their place in the file."""
    header = t.cast(t.Any, seen.header)
    if header.data_file:
        return int(header.virtual_size)
    compressed = sum(int(extent["length"]) for extent in extents if "offset" not in extent)
    return min(int(header.virtual_size), seen.facts.length + compressed)
