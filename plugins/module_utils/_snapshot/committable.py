# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What QEMU cannot commit a disk into. It says so only when a commit has begun, which then cannot be ended. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import Layer

#: those of which QEMU (7.2 to 11.1) can make larger disks
GROWING = ("raw", "qcow2", "qed", "luks")


def obstacle(low: Layer, virtual_size: int) -> t.Optional[t.Tuple[str, str]]:
    """(why a disk of C(virtual_size) bytes cannot be committed into this file, a way out beside C(streamed)), or None."""
    if low.format == "parallels":
        return "QEMU does not commit into images of the format parallels", ""
    if low.variant == "streamOptimized":
        return "QEMU does not write a second time to what an image of vmdk, streamOptimized, holds", ""
    return _against_growing(low) if virtual_size > low.virtual_size else None


def _against_growing(low: Layer) -> t.Optional[t.Tuple[str, str]]:
    larger = "the disk has become larger than %s, and QEMU does not make " % low.path
    inconsistent = [bitmap.name for bitmap in low.bitmaps if bitmap.in_use]
    if low.format not in GROWING:
        return larger + "images of the format %s larger" % low.format, ""
    if low.variant == "0.10" and low.snapshots:
        return larger + "one of compat 0.10 with internal snapshots larger", "delete its internal snapshots"
    if inconsistent:
        words = ", ".join(inconsistent)
        return larger + "one with inconsistent dirty bitmaps larger (%s)" % words, "remove those bitmaps from it"
    return None
