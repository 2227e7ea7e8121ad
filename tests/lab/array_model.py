"""What each leg of an array has to hold, byte for byte, by what is on the array: written from md(4), not from md. Pure."""

from __future__ import annotations

from typing import Callable, Iterator


def legs(level: str, number: int, chunk: int, size: int, content: bytes) -> list[bytes]:
    """The data of each leg, in the order of the array. C(chunk), C(size): bytes, of a chunk and of the data of one leg."""
    if level == "raid1":
        return [content[:size].ljust(size, b"\0")] * number
    held = [bytearray(size) for _leg in range(number)]
    for leg, at, part in _LEVELS[level](number, chunk, size, content):
        held[leg][at : at + len(part)] = part
    return [bytes(each) for each in held]


def _raid10(number: int, chunk: int, size: int, content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Two copies, near each other: the rows of the legs are filled with each chunk twice."""
    for place in range(number * (size // chunk)):
        yield place % number, place // number * chunk, _part(content, place // 2, chunk)


def _raid5(number: int, chunk: int, size: int, content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Left-symmetric: the parity goes from the last leg to the first, and the data begins after it."""
    for row in range(size // chunk):
        parity = number - 1 - row % number
        parts = [_part(content, row * (number - 1) + each, chunk) for each in range(number - 1)]
        for each, part in enumerate(parts):
            yield (parity + 1 + each) % number, row * chunk, part
        yield parity, row * chunk, _xor(parts)


_LEVELS: dict[str, Callable[[int, int, int, bytes], Iterator[tuple[int, int, bytes]]]] = {
    "raid5": _raid5,
    "raid10": _raid10,
}


def _part(content: bytes, number: int, chunk: int) -> bytes:
    return content[number * chunk : (number + 1) * chunk].ljust(chunk, b"\0")


def _xor(parts: list[bytes]) -> bytes:
    total = 0
    for part in parts:
        total ^= int.from_bytes(part, "little")
    return total.to_bytes(len(parts[0]), "little")
