"""The order of a task's images."""

from __future__ import annotations

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import SpecError
from ansible_collections.platter.qemu.plugins.module_utils._core.item import in_order


def test_each_level_needs_only_earlier_ones() -> None:
    assert in_order(["c", "b", "a", "x"], {"c": {"b"}, "b": {"a"}}) == [["a", "x"], ["b"], ["c"]]


def test_needs_outside_the_task_do_not_count() -> None:
    assert in_order(["a"], {"a": {"elsewhere"}}) == [["a"]]


def test_a_circle_is_refused() -> None:
    with pytest.raises(SpecError, match="circle") as caught:
        in_order(["a", "b"], {"a": {"b"}, "b": {"a"}})
    assert caught.value.reason == "backing_loop"
