# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Actions are values with an effect: a plan is a list of them, and folding them predicts the outcome."""

from __future__ import annotations

import typing as t

State = t.TypeVar("State")


class Action(t.Generic[State]):
    """One step of a plan. Subclasses are frozen dataclasses; C(str(action)) is a sentence for the user."""

    def apply(self, state: State) -> State:
        """The state this action leads to from C(state). Pure."""
        raise NotImplementedError


def predict(state: State, plan: t.Iterable[Action[State]]) -> State:
    """The state after all actions of C(plan). Pure."""
    for action in plan:
        state = action.apply(state)
    return state
