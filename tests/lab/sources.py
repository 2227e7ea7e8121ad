"""Bytes for the header readers: in memory, counted, and with the budget that a reader must keep."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import HeaderError

#: "About 1 MiB in all": what no reader may go beyond, whatever the bytes say.
BUDGET = 1 << 20


class MemorySource:
    """A ByteSource over bytes, which may stand for a longer, sparse file."""

    def __init__(self, data: bytes, length: int | None = None, budget: int = BUDGET) -> None:
        self.data = data
        self.length = len(data) if length is None else length
        self.budget = budget
        self.reads = 0

    def read(self, offset: int, size: int) -> bytes:
        if offset < 0 or size < 0:
            raise AssertionError(f"a reader asked for {size} bytes at {offset}")
        self.reads += 1
        self.budget -= size
        if self.budget < 0 or self.reads > 100_000:
            raise HeaderError("read more than the budget")
        there = max(0, min(size, self.length - offset))
        return self.data[offset : offset + there].ljust(there, b"\0")


def file_source(path: Path) -> MemorySource:
    """The file's bytes. For small images."""
    return MemorySource(path.read_bytes())
