"""Sizes as tasks write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._core.size import LARGEST, human, parse_size, round_up


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        (1024, 1024),
        ("1k", 1024),
        ("1K", 1024),
        ("1KiB", 1024),
        ("1KB", 1024),
        ("1 G", 1 << 30),
        ("10GiB", 10 << 30),
        ("1.5G", 3 << 29),
        ("2T", 2 << 40),
        ("7E", 7 << 60),
        ("512B", 512),
    ],
)
def test_units_are_powers_of_1024(text: object, size: int) -> None:
    assert parse_size(text) == size  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "-1", "1e3", "0x400", "G", "1.5", "1 2", "9E", "1X", "١", "1GiBB", None, "1\n2"])
def test_anything_else_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match=r"size|bytes|image"):
        parse_size(text)  # type: ignore[arg-type]


@given(st.integers(0, LARGEST))
def test_bytes_mean_themselves(size: int) -> None:
    assert parse_size(str(size)) == size


@given(st.integers(0, 2**60), st.sampled_from([512, 65536, 1 << 20]))
def test_rounding_up_is_the_next_multiple(size: int, grid: int) -> None:
    rounded = round_up(size, grid)
    assert rounded % grid == 0
    assert size <= rounded < size + grid


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (512, "512 bytes"), (20 << 30, "20 GiB"), (5 << 28, "1.25 GiB"), (1 << 60, "1 EiB")],
)
def test_sizes_in_sentences(size: int, text: str) -> None:
    assert human(size) == text
