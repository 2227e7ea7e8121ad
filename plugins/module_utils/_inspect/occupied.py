# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Which bytes of which files and devices a path stands for: a partition is a part of its disk, a loop device its file."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._inspect import block_use

#: what tells a file or device from others; of what is neither, C(("path", its name without links))
Which = t.Tuple[t.Any, ...]


class Extent(t.NamedTuple):
    """Bytes from C(start) up to C(end) (None: to the last one). C(somewhere): no more is known than that they are in it."""

    which: Which
    start: int = 0
    end: t.Optional[int] = None
    somewhere: bool = False

    def meets(self, other: Extent) -> bool:
        """Whether a byte can be in both. Two volumes of one group are in the same disk and do not meet."""
        if self.which != other.which or (self.somewhere and other.somewhere):
            return False
        return (other.end is None or self.start < other.end) and (self.end is None or other.start < self.end)


def extents_of(paths: t.Iterable[str]) -> t.Dict[str, t.Tuple[Extent, ...]]:
    """For each path first what it is itself, then what holds that."""
    targets = {path: block_use.identity_of(path) for path in paths}
    devices = any(target and target[0] == -1 for target in targets.values())
    loops = block_use.attached_loops() if devices else []
    return {
        path: tuple(_extents(Extent(target), loops)) if target else (Extent(("path", _without_links(path))),)
        for path, target in targets.items()
    }


def _without_links(path: str) -> str:
    try:
        return os.path.realpath(path)
    except ValueError:  # a header can say what is no name of a file
        return path


def _extents(at: Extent, loops: t.Sequence[block_use.Loop]) -> t.Iterator[Extent]:
    yield at
    target = t.cast(block_use.Identity, at.which)
    if target[0] != -1:
        return
    for which, first, length in block_use.windows_of(target, loops):
        last = first + length if length else None
        end = last if at.end is None else first + at.end if last is None else min(last, first + at.end)
        yield from _extents(Extent(which, first + at.start, end, at.somewhere), loops)
    for which in block_use.made_of(target):
        yield from _extents(Extent(which, somewhere=True), loops)
