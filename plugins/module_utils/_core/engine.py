# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What every resource gives to the loop of all modules (C(_module/run.py))."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item


class Engine:
    """The things of one task, from what is so to what is asked. C(noun), C(nouns): the keys of its facts in the result.

    C(commands): where each command that is run is written down, as a list of arguments.
    """

    noun: str
    nouns: str

    def __init__(self, commands: t.Optional[t.List[t.List[str]]] = None) -> None:
        self._commands = [] if commands is None else commands

    @property
    def commands(self) -> t.List[t.List[str]]:
        """Every command that was run."""
        return self._commands

    def hold(self) -> t.ContextManager[t.Any]:
        """Locks everything that may change."""
        raise NotImplementedError

    def prepare(self, patient: bool) -> t.List[Item]:
        """Observes and plans every item, in the order of the task; read-only. C(patient): may wait for what is in use."""
        raise NotImplementedError

    def execute(self, items: t.List[Item]) -> None:
        """Carries out the plans; errors end up in the items."""
        raise NotImplementedError

    def facts(self, state: t.Any) -> t.Dict[str, t.Any]:
        """A state as a result shows it."""
        return dict(state.to_facts())

    def managed(self, state: t.Any) -> t.Dict[str, t.Any]:
        """A state as a diff shows it: what is managed, and so can be predicted."""
        return self.facts(state)
