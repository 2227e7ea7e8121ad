# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""A file that becomes a point under another name has both for a moment, and keeps both when a run is killed in it.

Its record has C(until), its name until then, and C(second), the other, from before it has that until it has that alone.
"""

from __future__ import annotations

import os
import typing as t

Record = t.Mapping[str, t.Any]
_NOTED = ("until", "second")
_OF_A_POINT = ("name", "date", "leaf", "overlays", "size", "mtime_ns")


def noted(path: str, called: t.Optional[str]) -> t.Dict[str, str]:
    """What is to be remembered of the file at C(path) that is to be called C(called)."""
    return {"until": path, "second": called} if called and called != path else {}


def of_one_name(snapshot: Record) -> t.Dict[str, t.Any]:
    """What is to be remembered of a file that has become a point under its new name."""
    return {key: value for key, value in snapshot.items() if key not in _NOTED}


def no_point(snapshot: Record) -> t.Dict[str, t.Any]:
    """What is to be remembered of one that did not come to be a point."""
    return {key: value for key, value in snapshot.items() if key not in (*_NOTED, *_OF_A_POINT)}


def second_name(path: str, snapshot: Record) -> t.Optional[str]:
    """The name that a killed run has given to the file at C(path) as well; None where there is none."""
    second = str(snapshot.get("second") or "")
    if snapshot.get("until") != path or os.path.dirname(second) != os.path.dirname(path):
        return None
    return second if _is_one_file(path, second) else None


def is_second_name(path: str, snapshot: Record) -> bool:
    """Whether C(path) is such a name of a file that has its own still."""
    until = str(snapshot.get("until") or "")
    return bool(until) and _is_one_file(path, until)


def _is_one_file(path: str, other: str) -> bool:
    try:
        return path != other and os.path.samestat(os.lstat(path), os.lstat(other))
    except (OSError, ValueError):  # the last for what no path can be
        return False
