# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""One thing of a task on its way from what is so to what is asked; a task with one thing is a list of one."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.platter.qemu.plugins.module_utils._core import errors


@dataclass
class Item:
    """The one mutable value of the loop: an engine fills it in as the work goes on.

    C(before), C(after): states (observed, predicted). C(plan): the steps. C(refusal): why there is none.
    C(done): steps carried out. C(error): what ended them. C(notes): further keys of the result. C(warnings): sentences.
    """

    name: str
    spec: t.Any
    before: t.Any = None
    reading: t.Any = None
    plan: t.List[t.Any] = field(default_factory=list)
    after: t.Any = None
    refusal: t.Optional[errors.EngineError] = None
    done: int = 0
    error: t.Optional[errors.EngineError] = None
    notes: t.Dict[str, t.Any] = field(default_factory=dict)
    warnings: t.List[str] = field(default_factory=list)

    @property
    def failure(self) -> t.Optional[errors.EngineError]:
        """The refusal or error of this item, if any."""
        return self.refusal or self.error

    def note(self, told: t.Mapping[str, t.Any]) -> None:
        """What a step tells: further keys of the result, and C(warnings)."""
        self.warnings += told.get("warnings", [])
        self.notes.update({key: value for key, value in told.items() if key != "warnings"})


@dataclass
class Patience:
    """Until when, by C(time.monotonic()), a task waits for what is in use, however often it looks again; None before it
    waits.
    """

    until: t.Optional[float] = None


def not_begun(exc: errors.EngineError) -> errors.EngineError:
    """An error before anything was done, as users read it; a refusal says so itself."""
    if not isinstance(exc, errors.RefusedError) and not exc.message.startswith(("refused", "failed")):
        exc.message = "failed: %s. Nothing was changed." % exc.message.rstrip(".")
    return exc


def failed_at(item: Item, fact: str, now: str) -> str:
    """The message of a failure in the middle of the work. C(now): a sentence that says what is there."""
    done = " ".join(str(action) for action in item.plan[: item.done])
    before = "Done before: %s" % done if done else "Nothing was done before."
    step = str(item.plan[item.done]) if item.done < len(item.plan) else "The last look."
    return "failed at: %s %s. %s State now: %s" % (step, fact.rstrip("."), before, now)


def in_order(names: t.Sequence[str], needs: t.Mapping[str, t.AbstractSet[str]]) -> t.List[t.List[str]]:
    """C(names) in levels: each needs only names of earlier levels. Names within a level keep their order.

    Raises SpecError when they need each other in a circle.
    """
    left, levels = list(names), []
    while left:
        waiting = set(left)
        level = [name for name in left if not (needs.get(name, frozenset()) & waiting)]
        if not level:
            raise errors.SpecError(
                "the entry",
                left[0],
                "the listed images need each other in a circle: %s" % ", ".join(left),
                reason="backing_loop",
                way_out="Take one of them out of the circle.",
            )
        levels.append(level)
        left = [name for name in left if name not in set(level)]
    return levels


def attempt(
    item: Item, function: t.Callable[[], None], failed: t.Callable[[Item, errors.EngineError], errors.EngineError]
) -> None:
    """Do something for one item, whose errors are its own. C(failed) adds what was done and what is there now."""
    try:
        function()
    except errors.EngineError as exc:
        item.error = failed(item, exc)
    except OSError as exc:
        item.error = failed(item, errors.EngineError("%s: %s" % (exc.filename or item.name, exc.strerror)))
