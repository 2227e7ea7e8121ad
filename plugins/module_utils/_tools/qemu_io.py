# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Reads what the guest sees of an image, by qemu-io(1), read-only."""

from __future__ import annotations

import json
import re
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._tools import process
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import secret_objects
from ansible_collections.platter.qemu.plugins.module_utils._tools.quiet import directories_of

#: C(read -v) prints: offset, colon, 16 bytes in hex, two spaces, the same as text
_LINE = re.compile(r"^[0-9a-f]+:  ((?:[0-9a-f]{2} ?)+)", re.MULTILINE)
#: a reader that wants more than this, in bytes, is lost
_BUDGET = 4 << 20
#: one read of qemu-io, in bytes (its most is just below 2 GiB)
_STEP = 1 << 30


def flush(run_command: process.RunCommand, node: t.Mapping[str, t.Any], binary: str = "qemu-io") -> None:
    """Have the server of C(node) write what it holds to stable storage, as far as it offers that."""
    process.run(run_command, [binary, "-c", "flush", "json:" + json.dumps(node, sort_keys=True)])


class GuestView:
    """A ByteSource over the guest's view of an image in any format."""

    def __init__(
        self,
        run_command: process.RunCommand,
        node: t.Mapping[str, t.Any],
        length: int,
        secrets: t.Iterable[t.Tuple[str, str]] = (),
    ) -> None:
        self._run_command = run_command
        self._filename = "json:" + json.dumps(node, sort_keys=True)
        self._quiet = directories_of(node)
        self._argv = ["qemu-io", *secret_objects(secrets), "-r", "-U", "-c"]
        self._budget = _BUDGET
        self.length = length

    def open(self) -> None:
        """Only see whether it can be opened; ToolError when it cannot."""
        self._inspected([*self._argv, "quit", self._filename])

    def _inspected(self, argv: t.List[str]) -> str:
        limits = process.INSPECTION
        return process.run(self._run_command, argv, limits=limits, timeout=60, quiet=self._quiet)[1]

    def read(self, offset: int, size: int) -> bytes:
        """C(size) bytes at C(offset), fewer at the end."""
        size = max(0, min(size, self.length - offset))
        if not size:
            return b""
        if size > self._budget:
            raise errors.HeaderError("more of the image would have to be read than is allowed")
        self._budget -= size
        start, end = offset // 512 * 512, -(-(offset + size) // 512) * 512
        return self._sectors(start, end - start)[offset - start : offset - start + size]

    def is_zero(self, offset: int, size: int) -> bool:
        """Whether the guest reads nothing but zeros there. Sectors are all or nothing."""
        return all(self._reads_zero(at, min(_STEP, offset + size - at)) for at in range(offset, offset + size, _STEP))

    def _reads_zero(self, offset: int, size: int) -> bool:
        argv = [*self._argv, "read -q -P 0 %d %d" % (offset, size), self._filename]
        _rc, stdout = process.run(self._run_command, argv, ok=(0, 1), idle=True, quiet=self._quiet)
        return "Pattern verification failed" not in stdout and not _rc

    def _sectors(self, offset: int, size: int) -> bytes:
        argv = [*self._argv, "read -v %d %d" % (offset, size), self._filename]
        stdout = self._inspected(argv)
        data = bytes.fromhex("".join(_LINE.findall(stdout)).replace(" ", ""))
        if len(data) != size:
            raise errors.ToolOutputError(
                "qemu-io printed %d bytes instead of %d" % (len(data), size), cmd=argv, stdout=stdout
            )
        return data
