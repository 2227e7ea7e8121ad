# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The steps that a plan for a keeper is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ansible_collections.platter.qemu.plugins.module_utils._core.plan import Action
from ansible_collections.platter.qemu.plugins.module_utils._keeper.spec import Parts
from ansible_collections.platter.qemu.plugins.module_utils._keeper.state import KeeperState


@dataclass(frozen=True)
class EndKeeper(Action[KeeperState]):
    """End it. The array and its legs stay as they are."""

    name: str

    def apply(self, state: KeeperState) -> KeeperState:
        return replace(state, running=False, outdated=False)

    def __str__(self) -> str:
        return "End the keeper of array %s." % self.name


@dataclass(frozen=True)
class RemoveKeeper(Action[KeeperState]):
    """Remove its files."""

    name: str

    def apply(self, state: KeeperState) -> KeeperState:
        return KeeperState(state.name)

    def __str__(self) -> str:
        return "Remove the keeper of array %s." % self.name


@dataclass(frozen=True)
class WriteKeeper(Action[KeeperState]):
    """Write what it consists of."""

    name: str
    parts: Parts
    supervisor: str

    def apply(self, state: KeeperState) -> KeeperState:
        written = replace(state, parts=self.parts, supervisor=self.supervisor, outdated=state.running)
        return replace(written, enabled=self.supervisor == "systemd")

    def __str__(self) -> str:
        how = "a unit of systemd" if self.supervisor == "systemd" else "a process"
        return "Write the keeper of array %s, as %s." % (self.name, how)


@dataclass(frozen=True)
class StartKeeper(Action[KeeperState]):
    """Have it run, as it is written, instead of what may run."""

    name: str

    def apply(self, state: KeeperState) -> KeeperState:
        return replace(state, running=True, outdated=False)

    def __str__(self) -> str:
        return "Start the keeper of array %s." % self.name
