# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What keeps an image from being replaced by a copy of itself, or by a new import: what would go with the old file. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import words
from ansible_collections.platter.qemu.plugins.module_utils._image import refuse
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._image.state import ImageReading, ImageState


def refuse_losing_rewrite(spec: ImageSpec, reading: ImageReading) -> None:
    """A rewrite copies what the guest sees now, and nothing else; and never what belongs to others."""
    if reading.foreign_extents:
        raise refuse.refused(
            spec,
            "image_references_file",
            "its descriptor names files that are not its own: %s" % ", ".join(reading.foreign_extents[:5]),
            "Import it as a source with source.trusted, if that is meant.",
            {"extents": list(reading.foreign_extents)},
        )
    header = reading.header
    lost = snapshot_names(reading) + [b.name for b in header.bitmaps] if header else []
    if lost:
        raise refuse.refused(
            spec,
            "would_lose_snapshots",
            "a rewrite would lose its internal snapshots and bitmaps: %s" % ", ".join(lost),
            "Delete those first.",
            {"snapshots_and_bitmaps": lost},
        )


def refuse_rewritten_damage(spec: ImageSpec, state: ImageState, reading: ImageReading) -> None:
    """A rewrite keeps no file of before, and what a damaged one shows is a guess."""
    if state.corruptions or (reading.header and reading.header.corrupt):
        raise refuse.refused(
            spec,
            "image_corrupt",
            "it is damaged, and a rewrite would leave a copy only of what can be read",
            "Repair it first, in a task of its own with repair set to all, which keeps the damaged file.",
            {"corruptions": state.corruptions},
        )


def snapshot_names(reading: ImageReading) -> t.List[str]:
    """The internal snapshots in the image."""
    return [snapshot.name for snapshot in reading.header.snapshots] if reading.header else []


def refuse_other_content_of_snapshots(spec: ImageSpec, reading: ImageReading) -> None:
    """qemu-img rebase keeps what the guest sees now: snapshots take from the new base what they took from the old one."""
    names = snapshot_names(reading)
    if names:
        raise refuse.refused(
            spec,
            "would_lose_snapshots",
            "its internal snapshots take a part of their content from its backing file, and would show other data "
            "without it: %s" % ", ".join(names[:5]),
            "Delete those first; or, if the new base has the very content of the old one, set backing.rebase to unsafe.",
            {"snapshots_and_bitmaps": names},
        )


def refuse_rewritten_data_file(spec: ImageSpec, differences: t.Sequence[str]) -> None:
    """QEMU would empty the data file, which may be the very one that it reads."""
    if spec.option("data_file"):
        raise refuse.refused(
            spec,
            "exists_different",
            "it differs in what cannot be changed in place (%s), and an image with a data file is not rewritten"
            % "; ".join(differences),
            "Describe the image as it is, or make a new one under another name.",
            {"differences": list(differences)},
        )


def refuse_rewritten_keys(spec: ImageSpec, reading: ImageReading) -> None:
    """QEMU gives the copy one key, that of the secret which opens the image; the others cannot be read out of it."""
    slots = reading.header.keyslots if reading.header else ()
    if len(slots) > 1 and spec.encryption:
        raise refuse.refused(
            spec,
            "would_lose_keyslots",
            "its header has %d key slots in use (%s), and a rewrite would keep one key only, that of encryption.secret"
            % (len(slots), _listed(slots)),
            "Erase the other slots first, in a task of its own (encryption.keyslots with state: absent), and set them"
            " again after the rewrite.",
            {"keyslots": list(slots)},
        )


def refuse_replaced_keys(spec: ImageSpec, reading: ImageReading) -> None:
    """What is imported anew has the keys that the task names."""
    slots = reading.header.keyslots if reading.header else ()
    named = [slot.slot for slot in spec.encryption.keyslots] if spec.encryption else []
    lost = [slot for slot in slots if slot and slot not in named]
    if lost and spec.encryption:
        raise refuse.refused(
            spec,
            "would_lose_keyslots",
            "a new import would lose %s that the task does not name (%s)"
            % (words.counted(len(lost), "key slot"), _listed(lost)),
            "Name them in encryption.keyslots: with a new secret to keep them, with state: absent to lose them.",
            {"keyslots": lost},
        )


def _listed(slots: t.Sequence[int]) -> str:
    return ", ".join(str(slot) for slot in slots)


def refuse_with_points(spec: ImageSpec, reading: ImageReading) -> None:
    """For another base or another file: the rest of the disk lies in its external snapshots, which are built on those."""
    if reading.points:
        raise refuse.refused(
            spec,
            "has_snapshots",
            "it is an overlay on its external snapshots %s" % ", ".join(reading.points[:5]),
            "Remove those first (image_snapshot with kind: external and state: absent).",
            {"snapshots": list(reading.points)},
        )
