# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What becomes of the items whose images are in use: they wait, are left alone, or are refused."""

from __future__ import annotations

import functools
import time
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, Patience
from ansible_collections.platter.qemu.plugins.module_utils._inspect.holders import Holder

_POLL_SECONDS = 0.2
#: whoever only reads a header, as other runs of this collection do and udev, has gone after less
_PASSING_SECONDS, _PASSING_POLL_SECONDS = 1.0, 0.05
Held = t.Mapping[str, t.List[Holder]]
#: (item, who has it, as text, the same as evidence): the refusal
InUse = t.Callable[[Item, str, t.Mapping[str, t.Any]], errors.EngineError]


def wait_until_free(
    items: t.Sequence[Item], patience: t.Optional[Patience], held: t.Callable[[t.Sequence[Item]], Held], in_use: InUse
) -> bool:
    """Wait for the images of items as their C(on_in_use) and C(wait_timeout) say; whether it was waited for any.

    C(held(items)): the holders by the item's name, looked up anew each time. Without C(patience) nobody waits.
    """
    waited, waiting = False, list(items)
    while waiting:
        found = lasting(functools.partial(held, waiting))
        waiting = [item for item in waiting if found[item.name]]
        still = [item for item in waiting if item.spec.on_in_use == "wait" and patience and _goes_on(patience, items)]
        for item in waiting:
            if item not in still:
                give_up(item, found[item.name], _users(item, found[item.name], patience), in_use)
        waiting = still
        if waiting:
            waited = True
            time.sleep(_POLL_SECONDS)
    return waited


def _goes_on(patience: Patience, items: t.Sequence[Item]) -> bool:
    now = time.monotonic()
    if patience.until is None:
        patience.until = now + max(item.spec.wait_timeout for item in items)
    return now < patience.until


def _users(item: Item, holders: t.Sequence[Holder], patience: t.Optional[Patience]) -> str:
    text = ", ".join(map(str, holders[:5]))
    over = patience is not None and item.spec.on_in_use == "wait"
    return text + ", also when wait_timeout (%g s) was over" % item.spec.wait_timeout if over else text


def lasting(look: t.Callable[[], Held]) -> Held:
    """The holders that C(look) finds, by any name, without the readers that are gone a moment later. It leaves out those that
    do not matter: nobody is waited for whom it does not tell of. Who is there in two looks, one after the other, stays.
    """
    found = now = look()
    deadline = time.monotonic() + _PASSING_SECONDS
    while any(_may_pass(holders) for holders in now.values()) and time.monotonic() < deadline:
        time.sleep(_PASSING_POLL_SECONDS)
        before, now = now, look()
        found = {name: [h for h in now[name] if h in before[name] or not _reads_only(h)] for name in now}
    return found


def _may_pass(holders: t.Sequence[Holder]) -> bool:
    return bool(holders) and all(map(_reads_only, holders))


def _reads_only(holder: Holder) -> bool:
    """A claim that nobody is seen to have may be that of another look at the same device."""
    return holder.kind == "kernel" or (holder.kind == "process" and holder.writes is False)


def give_up(item: Item, holders: t.List[Holder], text: str, in_use: InUse) -> None:
    """Leave the item alone or refuse it, as its C(on_in_use) says. C(text): who has it."""
    evidence = {"in_use_by": [holder.to_facts() for holder in holders]}
    if item.spec.on_in_use == "skip":
        item.plan, item.after = [], item.before
        item.notes.update(skipped_reason="image_in_use", evidence=evidence)
        item.warnings.append("%s is left as it is because it is in use: %s" % (item.name, text))
        return
    item.refusal = in_use(item, text, evidence)
