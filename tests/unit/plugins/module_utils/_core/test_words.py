"""Foreign text is shown so that it cannot steer a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._core.words import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Größe, 1 «web»", "Größe, 1 «web»"),
        ("\x1b[2J\n", "\\x1b[2J\\x0a"),
        (b"\xff\x80".decode("utf-8", "surrogateescape"), "\\xff\\x80"),
        ("\u202e\U000e0001", "\\u202e\\U000e0001"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.binary(max_size=40))
def test_all_of_it_can_be_printed(data: bytes) -> None:
    assert printable(data.decode("utf-8", "surrogateescape")).isprintable()
