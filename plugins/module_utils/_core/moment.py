# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Moments as all modules show them. Pure."""

from __future__ import annotations

import typing as t
from datetime import datetime, timezone


def seconds(value: t.Any) -> t.Optional[float]:
    """Seconds since 1970 of what a record has as a date; None for what is no moment that a calendar has, and for 0."""
    try:
        datetime.fromtimestamp(float(value), timezone.utc)
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    return float(value) or None


def dated(moment: t.Optional[float]) -> t.Dict[str, t.Any]:
    """C(date), ISO 8601 in UTC, and C(date_sec), seconds since 1970; both None when the moment is not known."""
    if moment is None:
        return {"date": None, "date_sec": None}
    text = datetime.fromtimestamp(int(moment), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"date": text, "date_sec": int(moment)}
