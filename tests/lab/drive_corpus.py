"""Command lines of QEMU that people have written (corpus.yml)."""

from __future__ import annotations

import typing as t
from pathlib import Path

import yaml

_FILE = Path(__file__).resolve().parents[1] / "unit" / "plugins" / "module_utils" / "_drive" / "corpus.yml"


class Line(t.NamedTuple):
    """C(reason): what it is refused with when it is to be written anew; else empty."""

    text: str
    source: str
    reason: str


def lines() -> t.List[Line]:
    """All of them."""
    entries = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return [
        Line(text, entry["source"], entry.get("reason", ""))
        for entry in entries
        for text in entry["lines"].splitlines()
    ]
