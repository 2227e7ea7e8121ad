# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Whether an image can be opened as it is by a program that gets no secret. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header


class Trouble(t.NamedTuple):
    """Why it cannot; C(fact), C(way_out) are sentences."""

    reason: str
    fact: str
    way_out: str


def trouble_of(header: Header, *, kind: str, length: int, called: str) -> t.Optional[Trouble]:
    """What keeps the image from being opened. C(kind), C(length): of its file; C(called): its name in sentences."""
    if header.corrupt:
        return Trouble("image_corrupt", "its image is marked corrupt", "Repair it first (disk_image, repair: all).")
    if header.unknown_features:
        fact = "its image uses features that are not known here: %s" % ", ".join(header.unknown_features)
        return Trouble("unknown_features", fact, "Use a newer version.")
    if kind == "file" and length < header.least_length:
        fact = "%s is shorter (%d bytes) than its header says" % (called, length)
        return Trouble("image_damaged", fact, "Restore it from a copy.")
    if header.encrypted:
        fact = "its image is encrypted, and this module gives no secret to a server"
        return Trouble("image_encrypted", fact, "Let its VM open it with the secret.")
    return None
