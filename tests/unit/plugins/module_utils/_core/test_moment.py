"""Moments in results: one for all modules, and none made of what is no date."""

from __future__ import annotations

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.moment import dated, seconds


def test_a_moment_is_shown_in_utc_and_in_seconds() -> None:
    assert dated(1_700_000_000.9) == {"date": "2023-11-14T22:13:20Z", "date_sec": 1_700_000_000}


def test_an_unknown_moment_is_shown_as_such() -> None:
    assert dated(None) == {"date": None, "date_sec": None}


@pytest.mark.parametrize("value", [None, "", "yesterday", [], {}, 0, float("nan"), float("inf"), 1e300, -1e300])
def test_what_is_no_date_is_none(value: object) -> None:
    assert seconds(value) is None


@pytest.mark.parametrize("value", [1_700_000_000, 1_700_000_000.5, "1700000000.5"])
def test_what_a_record_has_is_a_date(value: object) -> None:
    assert seconds(value) == float(value)  # type: ignore[arg-type]
