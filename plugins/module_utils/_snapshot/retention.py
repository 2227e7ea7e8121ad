# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Which snapshots a retention keeps. Pure."""

from __future__ import annotations

import typing as t
from datetime import datetime, timezone
from fnmatch import fnmatchcase

from ansible_collections.platter.qemu.plugins.module_utils._snapshot import spec


class Dated(t.NamedTuple):
    """A snapshot as a retention sees it. C(date): seconds since 1970; C(order): tells which of two of one date is older."""

    name: str
    date: float
    order: int


def fits(name: str, match: str) -> bool:
    """Whether a name fits the shell pattern."""
    return fnmatchcase(name, match)


def _hour(moment: datetime) -> t.Tuple[int, ...]:
    return (moment.year, moment.month, moment.day, moment.hour)


def _day(moment: datetime) -> t.Tuple[int, ...]:
    return (moment.year, moment.month, moment.day)


def _week(moment: datetime) -> t.Tuple[int, ...]:
    return tuple(moment.isocalendar())[:2]


def _month(moment: datetime) -> t.Tuple[int, ...]:
    return (moment.year, moment.month)


_PERIODS: t.Sequence[t.Tuple[str, t.Callable[[datetime], t.Tuple[int, ...]]]] = (
    ("keep_hourly", _hour),
    ("keep_daily", _day),
    ("keep_weekly", _week),
    ("keep_monthly", _month),
)


def surplus(snapshots: t.Sequence[Dated], match: str, rules: spec.Retention, now: float) -> t.List[str]:
    """The names of those to remove, oldest first.

    Only names that C(match) (a shell pattern) fits count and go, and never the newest of them. A rule keeps the newest
    of each of its last periods (UTC) that have one; what no rule keeps goes. C(max_age) keeps what is younger when it
    stands alone, and takes what is older from what the other rules keep; C(max_depth) takes the oldest beyond it.
    """
    ours = sorted((s for s in snapshots if fits(s.name, match)), key=lambda s: (s.date, s.order))
    if not ours:
        return []
    kept = _kept_by_number(ours, rules) | _kept_by_period(ours, rules)
    if not _counts(rules):
        kept = {each.name for each in ours}
    if rules.max_age is not None:
        kept &= {each.name for each in ours if now - each.date <= rules.max_age}
    if rules.max_depth is not None:
        kept -= _too_deep(ours, kept, len(snapshots) - len(ours), rules.max_depth)
    kept.add(ours[-1].name)
    return [each.name for each in ours if each.name not in kept]


def _counts(rules: spec.Retention) -> bool:
    names = ["keep_last"] + [name for name, _period in _PERIODS]
    return any(getattr(rules, name) is not None for name in names)


def _kept_by_number(ours: t.Sequence[Dated], rules: spec.Retention) -> t.Set[str]:
    return {each.name for each in ours[-rules.keep_last :]} if rules.keep_last else set()


def _kept_by_period(ours: t.Sequence[Dated], rules: spec.Retention) -> t.Set[str]:
    kept: t.Set[str] = set()
    for name, period in _PERIODS:
        count = getattr(rules, name) or 0
        newest = {period(datetime.fromtimestamp(each.date, timezone.utc)): each.name for each in ours}
        kept.update(list(newest.values())[-count:] if count else [])
    return kept


def _too_deep(ours: t.Sequence[Dated], kept: t.Set[str], others: int, depth: int) -> t.Set[str]:
    """The oldest kept ones that are more than C(depth) layers allow, C(others) being layers that do not match."""
    staying = [each.name for each in ours if each.name in kept]
    return set(staying[: max(0, len(staying) + others - depth)])


def from_the_future(snapshots: t.Sequence[Dated], match: str, now: float) -> t.List[str]:
    """Names of matching snapshots that are dated later than C(now), a minute allowed for clocks that differ."""
    return [each.name for each in snapshots if fits(each.name, match) and each.date > now + 60]
