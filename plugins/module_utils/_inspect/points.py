# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The external snapshots that an image is on, as image_snapshot has made and remembered them. Read-only."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._inspect import chain, image

#: a chain is never followed further
_MOST = 200


class Points(t.NamedTuple):
    """C(names): of the snapshots, newest first. C(path), C(seen): the file of the lowest, whose base is the disk's own."""

    names: t.Tuple[str, ...]
    path: str
    seen: image.Seen


def points_below(path: str, seen: image.Seen) -> t.Optional[Points]:
    """The snapshots that the image C(path) is an overlay of; None where it is on none.

    An overlay that was made for a snapshot says so in its record, and so does the file that is one. The lowest is a
    file that was the disk before there were any, or is built on none.
    """
    names: t.List[str] = []
    while _made(seen) and len(names) < _MOST and seen.header and seen.header.backing_file:
        kind, below = chain.resolve_backing(path, seen.header.backing_file)
        if kind != "file":
            break
        found = image.look_at(below, seen.header.backing_format)
        name = (found.record.get("snapshot") or {}).get("name")
        if found.header is None or not name:
            break
        names.append(str(name))
        path, seen = below, found
    return Points(tuple(names), path, seen) if names else None


def _made(seen: image.Seen) -> bool:
    return bool((seen.record.get("snapshot") or {}).get("made"))
