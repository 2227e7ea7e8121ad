# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The refusal of an overlay whose base is not as it was: in what it differs, and what that may mean. Pure."""

from __future__ import annotations

import typing as t
from datetime import datetime, timezone

from ansible_collections.platter.qemu.plugins.module_utils._image import refuse
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._image.state import ImageReading, ImageState

#: of a file: what is compared
_TELLING = ("size", "mtime_ns")
_TIME_ONLY = (
    "a base that was only touched, or put back without its times (as by cp, or rsync without --times), looks so"
)
_AS_IT_WAS = "with its times (cp -p, rsync --times)"


def refuse_changed_base(spec: ImageSpec, state: ImageState, reading: ImageReading) -> None:
    """An overlay is only meaningful over the very base it was made on."""
    accepted = spec.flatten is False and spec.backing is not None and spec.backing.accept_changed
    if state.base_unchanged or accepted or state.backing is None:
        return
    now = reading.current_base_fingerprint or {}
    then = next(iter(reading.remembered_bases), {})
    fact = "its backing file %s has changed since this overlay was made, so that the guest may see corrupted data%s"
    raise refuse.refused(
        spec,
        "base_changed",
        fact % (state.backing.path, _difference(then, now)),
        _way_out(spec, _same_size(then, now)),
        {
            "backing_file": state.backing.path,
            "then": {key: then.get(key) for key in _TELLING},
            "now": {key: now.get(key) for key in _TELLING},
        },
    )


def _same_size(then: t.Mapping[str, t.Any], now: t.Mapping[str, t.Any]) -> bool:
    return bool(now) and then.get("size") == now.get("size")


def _difference(then: t.Mapping[str, t.Any], now: t.Mapping[str, t.Any]) -> str:
    if not _same_size(then, now):
        return ": it has %s bytes, and had %s" % (now.get("size"), then.get("size")) if then and now else ""
    told = (_moment(now.get("mtime_ns")), _moment(then.get("mtime_ns")))
    return ": by its modification time, %s, and not %s; its length is the same" % told


def _moment(nanoseconds: t.Any) -> str:
    """As C(touch -d) takes it. A record, and a file, can say what is no time of ours."""
    try:
        seconds, rest = divmod(int(nanoseconds), 1_000_000_000)
        moment = datetime.fromtimestamp(seconds, timezone.utc)
    except (TypeError, ValueError, OverflowError, OSError):
        return "%s ns" % (nanoseconds,)
    return "%s.%09d UTC" % (moment.strftime("%Y-%m-%d %H:%M:%S"), rest)


def _way_out(spec: ImageSpec, same_size: bool) -> str:
    """Restoring it as something new would be refused again, and so would be C(backing) beside C(flatten)."""
    apart = ", in a task without flatten" if spec.flatten else ""
    accept = "set backing.accept_changed to true once, with backing.path and backing.format" + apart
    if same_size:
        return "If it holds what it held (%s), %s; else restore it %s." % (_TIME_ONLY, accept, _AS_IT_WAS)
    return "Restore the base, %s; or, if the change is known to be harmless, %s." % (_AS_IT_WAS, accept)
