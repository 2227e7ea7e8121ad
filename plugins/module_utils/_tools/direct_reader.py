# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Reads a block device past the page cache: what the kernel itself writes to one (md its superblocks) is not seen there."""

from __future__ import annotations

import mmap
import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._tools import files

#: no device has larger sectors
_ALIGNED = 4096


class DirectReader:
    """A ByteSource over a block device. Raises EngineError for what cannot be read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = files.open_quietly(path, os.O_DIRECT)
        self.length = os.lseek(self._descriptor, 0, os.SEEK_END)

    def __enter__(self) -> DirectReader:
        return self

    def __exit__(self, *_unused: t.Any) -> None:
        os.close(self._descriptor)

    def read(self, offset: int, size: int) -> bytes:
        """C(size) bytes at C(offset), fewer at the end."""
        if offset >= self.length or size <= 0:
            return b""
        start = offset // _ALIGNED * _ALIGNED
        end = -(-(offset + size) // _ALIGNED) * _ALIGNED
        with mmap.mmap(-1, end - start) as buffer:
            try:
                count = os.preadv(self._descriptor, [buffer], start)
            except OSError as exc:
                raise errors.EngineError("%s cannot be read: %s" % (self.path, exc.strerror), path=self.path) from exc
            return buffer[offset - start : min(count, offset + size - start)]
