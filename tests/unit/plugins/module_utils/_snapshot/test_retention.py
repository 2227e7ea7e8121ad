"""Which snapshots a retention keeps, whatever there is."""

from __future__ import annotations

import typing as t
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._snapshot.retention import (
    Dated,
    fits,
    from_the_future,
    surplus,
)
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import Retention

NOW = 1_700_000_000.0
DAY = 86400.0
COUNT = st.none() | st.integers(0, 6)
RULES = st.builds(
    Retention,
    keep_last=COUNT,
    keep_hourly=COUNT,
    keep_daily=COUNT,
    keep_weekly=COUNT,
    keep_monthly=COUNT,
    max_age=st.none() | st.floats(0, 90 * DAY),
    max_depth=st.none() | st.integers(1, 8),
)
DATES = st.lists(st.integers(0, 120 * 24).map(lambda hours: NOW - hours * 3600.0), max_size=25)


@st.composite
def snapshots(draw: st.DrawFn) -> list[Dated]:
    """Some that match C(n*) and some that do not, in the order of an image's table, which need not be that of dates."""
    dates = draw(DATES)
    prefixes = draw(st.lists(st.sampled_from("nm"), min_size=len(dates), max_size=len(dates)))
    return [Dated(f"{prefix}{at}", date, at) for at, (prefix, date) in enumerate(zip(prefixes, dates))]


def ordered(found: t.Iterable[Dated]) -> list[Dated]:
    return sorted(found, key=lambda each: (each.date, each.order))


@given(snapshots(), RULES)
def test_the_newest_that_matches_never_goes(found: list[Dated], rules: Retention) -> None:
    ours = ordered(each for each in found if fits(each.name, "n*"))
    gone = surplus(found, "n*", rules, NOW)
    assert not ours or ours[-1].name not in gone
    assert set(gone) <= {each.name for each in ours}, "what does not match never goes"


@given(snapshots(), RULES)
def test_they_go_oldest_first(found: list[Dated], rules: Retention) -> None:
    gone = surplus(found, "n*", rules, NOW)
    dated = {each.name: (each.date, each.order) for each in found}
    assert gone == sorted(gone, key=lambda name: dated[name])


@given(snapshots(), RULES)
def test_a_second_look_finds_nothing_to_remove(found: list[Dated], rules: Retention) -> None:
    gone = surplus(found, "n*", rules, NOW)
    assert surplus([each for each in found if each.name not in gone], "n*", rules, NOW) == []


@given(snapshots(), st.integers(1, 10))
def test_the_last_ones_stay(found: list[Dated], count: int) -> None:
    gone = surplus(found, "*", Retention(keep_last=count), NOW)
    assert gone == [each.name for each in ordered(found)][:-count]


@given(snapshots(), RULES)
def test_another_rule_never_removes_more(found: list[Dated], rules: Retention) -> None:
    """But for the two that limit."""
    some = Retention(keep_last=rules.keep_last or 1)
    more = Retention(rules.keep_last or 1, rules.keep_hourly, rules.keep_daily, rules.keep_weekly, rules.keep_monthly)
    assert set(surplus(found, "*", more, NOW)) <= set(surplus(found, "*", some, NOW))


@given(snapshots(), st.integers(1, 8))
def test_there_are_no_more_layers_than_allowed(found: list[Dated], depth: int) -> None:
    left = len(found) - len(surplus(found, "n*", Retention(max_depth=depth), NOW))
    others = sum(1 for each in found if not fits(each.name, "n*"))
    assert left <= max(depth, others + 1)


@given(snapshots(), st.floats(0, 90 * DAY))
def test_what_is_older_goes(found: list[Dated], age: float) -> None:
    gone = surplus(found, "*", Retention(max_age=age), NOW)
    last = [each.name for each in ordered(found)][-1:]
    assert set(gone) == {each.name for each in found if NOW - each.date > age and each.name not in last}


@given(snapshots(), st.integers(1, 6))
def test_each_of_the_last_days_keeps_its_newest(found: list[Dated], count: int) -> None:
    gone = surplus(found, "*", Retention(keep_daily=count), NOW)
    newest: dict[str, str] = {}
    for each in ordered(found):
        newest[datetime.fromtimestamp(each.date, timezone.utc).strftime("%Y-%m-%d")] = each.name
    assert {each.name for each in found} - set(gone) == {newest[day] for day in sorted(newest)[-count:]}


@pytest.mark.parametrize(("ahead", "late"), [(59, []), (61, ["n0"])])
def test_a_minute_is_allowed_for_clocks_that_differ(ahead: float, late: list[str]) -> None:
    assert from_the_future([Dated("n0", NOW + ahead, 0), Dated("m1", NOW + DAY, 1)], "n*", NOW) == late


def test_weeks_are_those_of_iso() -> None:
    """2020-12-31 and 2021-01-01 are in one week, 2021-01-04 in the next."""
    days = [datetime(2020, 12, 31), datetime(2021, 1, 1), datetime(2021, 1, 4)]
    found = [Dated(f"n{at}", day.replace(tzinfo=timezone.utc).timestamp(), at) for at, day in enumerate(days)]
    assert surplus(found, "*", Retention(keep_weekly=5), NOW) == ["n0"]
