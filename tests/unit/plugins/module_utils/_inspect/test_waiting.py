"""Who counts as a user of an image: not whoever reads its header and is gone."""

from __future__ import annotations

import typing as t
from types import SimpleNamespace

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import EngineError
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._inspect.holders import Holder
from ansible_collections.platter.qemu.plugins.module_utils._inspect.waiting import wait_until_free

READER, OTHER = Holder("process", 7, "python", False), Holder("process", 8, "python", False)
WRITER = Holder("process", 9, "dd", True)
CLAIM = Holder("kernel", None, "exclusive open", None)
LOCK = Holder("qemu_lock", None, "somebody", None)


def told(*looks: list[Holder]) -> list[str]:
    """Who is named in the refusal, when each look finds these; the last one is found again and again."""
    left = list(looks)
    item = Item("a", SimpleNamespace(on_in_use="fail", wait_timeout=0.0), before=None, after=None)
    named: list[str] = []

    def held(_items: t.Sequence[Item]) -> dict[str, list[Holder]]:
        return {"a": left.pop(0) if len(left) > 1 else left[0]}

    def in_use(_item: Item, _text: str, evidence: t.Mapping[str, t.Any]) -> EngineError:
        named.extend(each["name"] for each in evidence["in_use_by"])
        return EngineError("in use")

    wait_until_free([item], None, held, in_use)
    assert bool(item.refusal) is bool(named)
    return named


@pytest.mark.parametrize(
    "looks", [([READER], []), ([READER], [OTHER], [READER], []), ([READER, OTHER], [OTHER], []), ([CLAIM], [])]
)
def test_readers_that_go_do_not_count(looks: tuple[list[Holder], ...]) -> None:
    assert told(*looks) == []


@pytest.mark.parametrize(
    ("looks", "named"),
    [
        (([READER],), ["python"]),
        (([READER], [READER, OTHER], [OTHER]), ["python"]),
        (([WRITER], []), ["dd"]),
        (([CLAIM],), ["exclusive open"]),
        (([LOCK], []), ["somebody"]),
        (([READER], [WRITER]), ["dd"]),
        (([READER, WRITER], [READER]), ["python", "dd"]),
    ],
)
def test_who_stays_or_writes_counts(looks: tuple[list[Holder], ...], named: list[str]) -> None:
    assert told(*looks) == named
