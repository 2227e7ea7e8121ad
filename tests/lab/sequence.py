"""What the guest's writer writes, read from outside: what a disk held at any moment is the beginning of one sequence.

Number n (1, 2, ...) fills the block in slot (n - 1) % slots. So a disk that has been written up to n has known bytes in
every slot, and one block that is lost, doubled or torn shows.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.platter.qemu.tests.lab.guest import filename
from ansible_collections.platter.qemu.tests.lab.oracle import qemu_img

BLOCK = 4096


@dataclass(frozen=True)
class Layout:
    """Where the slots are. C(spacing) bytes from one to the next: one cluster, so that each write allocates."""

    slots: int = 256
    spacing: int = 64 << 10

    @property
    def size(self) -> int:
        """Bytes of a disk that holds it."""
        return self.slots * self.spacing

    def at(self, number: int) -> list[int]:
        """The number that is in every slot once C(number) has been written; 0 for none yet."""
        return [max(0, number - (number - 1 - slot) % self.slots) for slot in range(self.slots)]

    def content(self, number: int) -> bytes:
        """All that a disk holds, once C(number) has been written; it was blank before."""
        held = bytearray(self.size)
        for slot, each in enumerate(self.at(number)):
            if each:
                held[slot * self.spacing : slot * self.spacing + BLOCK] = block(each)
        return bytes(held)


def written_up_to(path: object, format: str, layout: Layout, *options: str) -> int:
    """The number up to which an image has been written. Fails where it is not the beginning of the sequence.

    C(options) go to C(qemu-img convert): C(-U), C(-l snapshot.name=...).
    """
    with tempfile.TemporaryDirectory() as directory:
        raw = Path(directory) / "raw"
        qemu_img("convert", *options, "-O", "raw", filename(path, format), raw)
        return in_raw(raw, layout)


def in_raw(raw: Path, layout: Layout) -> int:
    """The same for a raw file."""
    with raw.open("rb") as disk:
        numbers = []
        for slot in range(layout.slots):
            disk.seek(slot * layout.spacing)
            numbers.append(_number(disk.read(BLOCK), slot))
    last = max(numbers)
    wrong = [(slot, has, due) for slot, (has, due) in enumerate(zip(numbers, layout.at(last))) if has != due]
    assert not wrong, f"written up to {last}, but (slot, has, should have): {wrong[:5]}"
    return last


def block(number: int) -> bytes:
    """The bytes of one number."""
    return b"%016x" % number * (BLOCK // 16)


def _number(content: bytes, slot: int) -> int:
    if not any(content):
        return 0
    number = int(content[:16], 16)
    assert content == block(number), f"the block in slot {slot} is torn: {content[:16]!r} ... {content[-16:]!r}"
    return number
