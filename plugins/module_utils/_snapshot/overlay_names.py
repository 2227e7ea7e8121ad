# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Which of the overlays on a file its record needs to name. Read-only."""

from __future__ import annotations

import os
import typing as t

#: of one directory and one owner
_MOST = 4
_MOST_OWNERS = 16


def enough(overlays: t.Sequence[str]) -> t.List[str]:
    """Of those in one directory that belong to one user, the last few: they tell where there are more, and whose count.

    Going back to a point leaves one each time, and ext4 has room for attributes of 4 KiB in all.
    """
    found: t.List[str] = []
    seen: t.List[t.Tuple[str, t.Optional[int]]] = []
    for path in reversed(overlays):
        seen.append((os.path.dirname(path), _owner(path)))
        if seen.count(seen[-1]) <= _MOST:
            found.append(path)
    return found[::-1]


def owners(overlays: t.Sequence[str], known: t.Sequence[str]) -> t.List[str]:
    """Whose overlays there are or have been, by their numbers: not all of those that there are have their names there."""
    found = [str(owner) for owner in map(_owner, overlays) if owner is not None]
    return sorted({*known, *found})[:_MOST_OWNERS]


def _owner(path: str) -> t.Optional[int]:
    try:
        return os.lstat(path).st_uid
    except OSError:  # gone, or about to be made
        return None
