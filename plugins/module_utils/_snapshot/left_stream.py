# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What killed runs have left of streams: a file all of which is in the layer that was on it, and which has only to be removed.

C(directory) is a LayerDirectory.
"""

from __future__ import annotations

import typing as t


def point(directory: t.Any, path: str) -> t.Optional[str]:
    """The point that a killed run had streamed into this layer, and not removed yet."""
    left = _streamed_from(directory, path)
    return None if left is None or directory.children.get(left) else left


def lowest(directory: t.Any, path: str) -> t.Optional[str]:
    """The lowest file of the disk, all of which is in this layer, which is therefore the lowest."""
    left = _streamed_from(directory, path)
    return None if left is None or "made" in directory.record(left) else left


def _streamed_from(directory: t.Any, path: str) -> t.Optional[str]:
    """The file that this layer was on until all of it was in the layer: both must say so."""
    left = directory.record(path).get("streaming")
    if left not in directory.seen or directory.bases.get(path) == left or directory.record(left).get("into") != path:
        return None
    return str(left)
