# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Where the data of an image ends, so that a shrink is known to cut nothing. Read-only."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._image import refuse, secret
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import image, signatures
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, process, qemu_io, sparse
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg


def find_data_end(
    qemu_img: QemuImg, run_command: process.RunCommand, spec: ImageSpec, seen: image.Seen, size: int
) -> t.Optional[t.Tuple[int, str]]:
    """(byte, what) of the last thing found: a partition or file system by its own account, else data beyond C(size)."""
    header = t.cast(Header, seen.header)
    node, secrets = secret.opened_node(spec, header, files.local_node(seen.facts))
    view = qemu_io.GuestView(run_command, node, header.virtual_size, secrets)
    known = signatures.end_of_data(view)
    if known is not None and known > size:
        return known, "a partition or file system"
    written = (
        _written_luks(seen, header, size) if header.format == "luks" else _allocated(qemu_img, node, size, secrets)
    )
    copy_at = (signatures.gpt_copy_at(view) if written else None) or header.virtual_size
    for start, end in reversed([(start, min(end, copy_at)) for start, end in written if start < copy_at]):
        if not view.is_zero(start, end - start):
            return end, "data"
    return (header.virtual_size, refuse.GPT_COPY) if copy_at < header.virtual_size else None


def _allocated(qemu_img: QemuImg, node: t.Any, size: int, secrets: t.Any) -> t.List[t.Tuple[int, int]]:
    """(start, end) of what may hold data beyond C(size). It may still be zeros: a block of VHDX has 8 MiB or more."""
    return [
        (int(extent["start"]), int(extent["start"]) + int(extent["length"]))
        for extent in qemu_img.map(node, start=size, secrets=secrets)
        if extent.get("data") and not extent.get("zero")
    ]


def _written_luks(seen: image.Seen, header: Header, size: int) -> t.List[t.Tuple[int, int]]:
    """The same of a LUKS image, which shows its guest noise where it was never written: where the file has zeros.

    What is written is encrypted, zeros too, and so is never all zeros in the file.
    """
    payload = int(t.cast(t.Any, header.format_specific)["data"]["payload-offset"])
    found = sparse.nonzero_ranges(seen.facts.path, payload + size)
    return [(start - payload, min(end - payload, header.virtual_size)) for start, end in found]
