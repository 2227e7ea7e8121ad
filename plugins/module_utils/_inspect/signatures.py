# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""What a block device or raw image carries: partition tables, RAID, LVM, LUKS, file systems, swap; and where it ends.

Read natively, so that it works without blkid, and on the guest's view of an image in any format.
"""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import header
from ansible_collections.platter.qemu.plugins.module_utils._inspect import containers, disk_labels, filesystems
from ansible_collections.platter.qemu.plugins.module_utils._inspect.signature import Signature, View
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, sparse

__all__ = ["Signature", "content_of", "end_of_data", "first_signature", "gpt_copy_at", "has_data", "signatures"]

#: what is read first of a device: its edges, and samples between
_EDGE, _SAMPLES, _SAMPLE = 1 << 20, 1024, 64 << 10


def signatures(source: header.ByteSource) -> list[Signature]:
    """Everything that is recognised, what holds other things first. A disk can carry several at once."""
    view = View(source)
    probes = (*containers.PROBES, *disk_labels.PROBES, *filesystems.PROBES)
    return [signature for signature in (probe(view) for probe in probes) if signature]


def end_of_data(source: header.ByteSource) -> int | None:
    """The byte behind the last partition or file system by their own account; None when nothing is recognised.

    RAID members, LUKS and the like use all of the disk. GPT's copy at the very end is not counted: a disk that is
    cut behind its last partition needs that copy written anew (C(sgdisk -e)), but loses nothing.
    """
    return max((signature.end or 0 for signature in signatures(source)), default=None)


def gpt_copy_at(source: header.ByteSource) -> int | None:
    """Where the copy of the GPT begins that fills the end of the disk; None when there is none."""
    return disk_labels.gpt_copy_at(View(source))


def first_signature(path: str) -> str | None:
    """The first signature of a file or device, as text for a message; None when it carries nothing known."""
    with files.FileReader(path) as source:
        return next((str(signature) for signature in signatures(source)), None)


def content_of(path: str) -> str | None:
    """What a device carries, as text for a message; None when it is blank, which only all of it can tell.

    Samples find most data long before that.
    """
    known = first_signature(path)
    if known:
        return known
    blank = not _sampled(path) and sparse.is_zero(path)
    return None if blank else "data of an unknown kind"


def _sampled(path: str) -> bool:
    with files.FileReader(path, budget=2 * _EDGE + 2 * _SAMPLES * _SAMPLE) as source:
        return has_data(source)


def has_data(source: header.ByteSource) -> bool:
    """Whether there is anything but zeros at the edges of a disk, or in samples between them; of up to 64 MiB, in all of it."""
    samples = (source.read(at, size) for at, size in _samples(source.length))
    return any(sample != bytes(len(sample)) for sample in samples)  # 160 times as fast as strip()


def _samples(length: int) -> t.Iterator[tuple[int, int]]:
    """(offset, size) of what is read first of a device of that length."""
    if length <= 2 * _EDGE:
        yield 0, length
        return
    yield from ((0, _EDGE), (length - _EDGE, _EDGE))
    step = max(_SAMPLE, length // _SAMPLES // 4096 * 4096)
    yield from ((at, _SAMPLE) for at in range(_EDGE, length - _EDGE, step))
