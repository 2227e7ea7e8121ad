# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Carries out plans, several devices at a time, and looks again at what came of it."""

from __future__ import annotations

import os
import typing as t
from functools import partial

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, attempt, failed_at
from ansible_collections.platter.qemu.plugins.module_utils._device import (
    actions,
    attach,
    detach,
    observe,
    places,
    server,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools import loop_device, process
from ansible_collections.platter.qemu.plugins.module_utils._tools.side_by_side import side_by_side

_MOST_WORKERS = 8
#: all that goes goes before anything comes, as devices may trade places
_PASSES = (
    (actions.EndServer, actions.DetachDevice, actions.RemoveLink),
    (actions.AttachDevice, actions.TakeLength, actions.LinkDevice),
)


Look = t.Callable[[], observe.Ground]


class Executor:
    """Runs the actions of items. C(now): reads what is so on the host. C(workers) 0: as many as help."""

    def __init__(self, run: process.RunCommand, now: Look, *, workers: int) -> None:
        self._now = now
        self._workers = workers or min(_MOST_WORKERS, 2 * (os.cpu_count() or 1))
        self._methods: t.Dict[t.Any, t.Callable[[Item, t.Any], None]] = {
            actions.EndServer: lambda item, _action: server.end(item),
            actions.DetachDevice: lambda item, _action: detach.detach(run, item),
            actions.RemoveLink: lambda item, _action: places.remove(item.name),
            actions.AttachDevice: partial(attach.attach, run),
            actions.TakeLength: attach.take_length,
            actions.LinkDevice: _link,
        }

    def run(self, items: t.Sequence[Item]) -> None:
        """Carry out the plans of items."""
        for kinds in _PASSES:
            self._each([item for item in items if not item.error], kinds)
        now = self._now()
        for item in items:
            if not item.error:
                self._attempt(item, partial(look_again, item, now))

    def _each(self, items: t.Sequence[Item], kinds: t.Tuple[type, ...]) -> None:
        side_by_side(lambda item: self._attempt(item, partial(self._carry_out, item, kinds)), items, self._workers)

    def _carry_out(self, item: Item, kinds: t.Tuple[type, ...]) -> None:
        while item.done < len(item.plan) and isinstance(item.plan[item.done], kinds):
            action = item.plan[item.done]
            self._methods[type(action)](item, action)
            item.done += 1

    @staticmethod
    def _attempt(item: Item, function: t.Callable[[], None]) -> None:
        attempt(item, function, _failed)


# --- the steps that are not told elsewhere


def _link(item: Item, _action: actions.LinkDevice) -> None:
    paths = observe.found(item.spec, loop_device.attached())
    if paths:
        places.lead(item.name, paths[0])


def look_again(item: Item, now: observe.Ground) -> None:
    """What is there now must be what was predicted."""
    found, item.reading = observe.observe(item.spec, now)
    if found != item.after:
        link = places.link_of(item.name)
        raise errors.FailedError(
            "failed: device %s is not as planned after the change: %s instead of %s."
            % (item.name, found.to_facts(link), item.after.to_facts(link)),
            reason="not_as_planned",
        )


def _failed(item: Item, exc: errors.EngineError) -> errors.EngineError:
    """The error of an item, with what was done and what is there now."""
    if isinstance(exc, errors.RefusedError) and not item.done:
        return exc
    paths = observe.found(item.spec, loop_device.attached())
    now = "%s is there." % paths[0] if paths else "it is not attached."
    exc.message = failed_at(item, exc.message, now)
    return exc
