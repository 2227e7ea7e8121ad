# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Turns the options of a task into what is asked of a timer, and refuses contradictions. Pure."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._timer import settings
from ansible_collections.platter.qemu.plugins.module_utils._timer.spec import TimerSpec

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")
#: the letters of calendar events and time zones (systemd.time(7)); of others one could end the line of the unit
_WHEN = re.compile(r"^[A-Za-z0-9*:.,/~+_ -]+\Z")


def read_spec(params: t.Mapping[str, t.Any]) -> TimerSpec:
    """The spec of a task's options. Raises SpecError."""
    name, state = str(params["name"]), params.get("state") or "present"
    if not _NAME.match(name):
        way_out = "Set name to 1 to 63 letters, digits, dots, underscores and minus signs."
        raise refused(name, "bad_name", "%r is no good name for a timer" % name, way_out)
    if state == "absent":
        return TimerSpec(name, state)
    when, delay = str(params.get("on_calendar") or ""), int(params.get("randomized_delay") or 0)
    if not _WHEN.match(when):
        raise no_calendar(name, when, "it has letters that no calendar event has")
    if delay < 0:
        raise refused(name, "bad_option", "randomized_delay is negative", "Write seconds.")
    if not params.get("snapshots"):
        raise refused(name, "bad_option", "no snapshots are asked for", "List them in snapshots, or set state: absent.")
    told = settings.to_text(settings.from_params(params))
    return TimerSpec(name, state, told, on_calendar=when, randomized_delay=delay)


def no_calendar(name: str, when: str, why: str) -> errors.SpecError:
    """What systemd does not understand as a time. C(why): a phrase."""
    way_out = "Write it as in systemd.time(7), and try it with systemd-analyze calendar."
    return refused(name, "bad_option", "on_calendar %r is no calendar event: %s" % (when, why), way_out)


def never(name: str, when: str) -> errors.SpecError:
    """The refusal of a time that has passed, or that no year has."""
    fact = "on_calendar %r never comes, or not any more" % when
    return refused(name, "bad_option", fact, "Write a time that comes again; or set state: absent.")


def refused(name: str, reason: str, fact: str, way_out: str) -> errors.SpecError:
    """A refusal of what the options say of this timer."""
    return errors.SpecError("timer", name, fact, reason=reason, way_out=way_out, joined="")


def refused_state(spec: TimerSpec, reason: str, fact: str, way_out: str) -> errors.RefusedError:
    """A refusal of what is asked of this timer, as its host is."""
    return errors.refused_state("timer", spec.state, spec.name, reason, fact, way_out)
