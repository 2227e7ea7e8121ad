"""Images with a few bytes changed, the same ones for the same seed."""

from __future__ import annotations

import random
import struct
from typing import Iterator

from ansible_collections.platter.qemu.tests.lab.headers import every_format

_INTERESTING = (0, 1, 2, 3, 4, 8, 9, 16, 21, 22, 63, 64, 127, 128, 254, 255)


def mutants(seed: int, count: int) -> Iterator[tuple[str, str, bytes]]:
    """(name, format, bytes) of C(count) mutants, each format in its turn."""
    pool = [(name, format, data, _places(data)) for name, (format, data) in every_format().items()]
    chance = random.Random(seed)
    for index in range(count):
        name, format, data, places = pool[index % len(pool)]
        yield f"{name} {seed}/{index}", format, _mutant(chance, format, data, places)


def _places(data: bytes) -> list[int]:
    """Where something stands; changes in empty places are rare."""
    return [at for at, byte in enumerate(data[: 4 << 20]) if byte][:4096]


def _mutant(chance: random.Random, format: str, data: bytes, places: list[int]) -> bytes:
    changed = bytearray(data)
    for _change in range(chance.choice((1, 1, 2, 3, 8))):
        at = _place(chance, changed, places)
        changed[at] = chance.choice(_INTERESTING) if chance.random() < 0.5 else chance.randrange(256)
    if chance.random() < 0.1:
        del changed[chance.randrange(len(changed)) :]
    return _sealed(bytes(changed)) if format == "vpc" and chance.random() < 0.8 else bytes(changed)


def _place(chance: random.Random, data: bytearray, places: list[int]) -> int:
    kind = chance.random()
    if places and kind < 0.5:
        return chance.choice(places)
    return chance.randrange(min(len(data), 128 if kind < 0.9 else 65536))


def _sealed(data: bytes) -> bytes:
    """With right checksums in the footers of a VHD: without, there is nothing more to see."""
    changed = bytearray(data)
    for at in (0, len(data) - 512):
        if at >= 0 and data[at : at + 8] == b"conectix":
            rest = sum(data[at : at + 512]) - sum(data[at + 64 : at + 68])
            changed[at + 64 : at + 68] = struct.pack(">I", ~rest & 0xFFFFFFFF)
    return bytes(changed)
