# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Where the data of an image ends, so that a shrink is known to cut nothing. Read-only."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import image, signatures
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, qemu_io
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg, image_node


def find_data_end(
    qemu_img: QemuImg, run_command: t.Any, spec: ImageSpec, seen: image.Seen, size: int
) -> t.Optional[t.Tuple[int, str]]:
    """(byte, what) of the last thing found: a partition or file system by its own account, else data beyond C(size)."""
    header = t.cast(t.Any, seen.header)
    node = image_node(header.format, files.local_node(seen.facts))
    view = qemu_io.GuestView(run_command, node, header.virtual_size)
    known = signatures.end_of_data(view)
    if known is not None and known > size:
        return known, "a partition or file system"
    # what is allocated may still be zeros: a block of VHDX has 8 MiB or more
    for extent in reversed(qemu_img.map(node, start=size)):
        start, length = int(extent["start"]), int(extent["length"])
        if extent.get("data") and not extent.get("zero") and not view.is_zero(start, length):
            return start + length, "data"
    return None
