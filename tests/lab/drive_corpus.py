"""Command lines of QEMU that people have written (corpus.txt)."""

from __future__ import annotations

import typing as t
from pathlib import Path

_FILE = Path(__file__).resolve().parents[1] / "unit" / "plugins" / "module_utils" / "_drive" / "corpus.txt"


class Line(t.NamedTuple):
    """C(reason): what it is refused with when it is to be written anew; else empty."""

    text: str
    source: str
    reason: str


def lines() -> t.List[Line]:
    """All of them."""
    _preface, *entries = _FILE.read_text(encoding="utf-8").split("\n# ")
    return [line for entry in entries for line in _of(entry.splitlines())]


def _of(entry: t.List[str]) -> t.Iterator[Line]:
    source, *rest = entry
    reason = rest.pop(0)[2:] if rest[0].startswith("! ") else ""
    yield from (Line(text, source, reason) for text in rest if text)
