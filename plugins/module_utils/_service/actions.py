# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The steps that a plan for a service is made of. C(what): the words for it, as in C(the keeper of array data)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ansible_collections.platter.qemu.plugins.module_utils._core.plan import Action
from ansible_collections.platter.qemu.plugins.module_utils._service.state import Parts, ServiceState


@dataclass(frozen=True)
class StopService(Action[ServiceState]):
    """What it has done stays."""

    what: str

    def apply(self, state: ServiceState) -> ServiceState:
        return replace(state, running=False, outdated=False)

    def __str__(self) -> str:
        return "Stop %s." % self.what


@dataclass(frozen=True)
class RemoveService(Action[ServiceState]):
    """Remove its files."""

    what: str

    def apply(self, state: ServiceState) -> ServiceState:
        return ServiceState(state.name)

    def __str__(self) -> str:
        return "Remove %s." % self.what


@dataclass(frozen=True)
class WriteService(Action[ServiceState]):
    """Write what it consists of. What runs goes on."""

    what: str
    parts: Parts
    supervisor: str

    def apply(self, state: ServiceState) -> ServiceState:
        written = replace(state, parts=self.parts, supervisor=self.supervisor, outdated=state.running)
        return replace(written, enabled=self.supervisor == "systemd")

    def __str__(self) -> str:
        return "Write %s%s." % (self.what, "" if self.supervisor == "systemd" else ", as a process")


@dataclass(frozen=True)
class StartService(Action[ServiceState]):
    """Have it run as it is written, instead of what may run."""

    what: str

    def apply(self, state: ServiceState) -> ServiceState:
        return replace(state, running=True, outdated=False)

    def __str__(self) -> str:
        return "Start %s." % self.what
