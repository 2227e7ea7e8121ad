# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The steps that a plan for an export is made of."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from ansible_collections.platter.qemu.plugins.module_utils._core import words
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import Action
from ansible_collections.platter.qemu.plugins.module_utils._export.difference import Changes
from ansible_collections.platter.qemu.plugins.module_utils._export.state import Client, Definition, ExportState


@dataclass(frozen=True)
class StopServer(Action[ExportState]):
    """End the server and its supervisor, for good: it is not started at boot either. C(clients): who is cut off;
    C(may_lose): what that costs them.
    """

    name: str
    clients: t.Tuple[Client, ...] = ()
    may_lose: str = ""
    #: systemd has to know of it first
    in_unit: bool = False
    #: the storage daemon that it is in
    daemon: str = ""
    #: what it is to be served with otherwise
    changes: Changes = ()

    def apply(self, state: ExportState) -> ExportState:
        return replace(state, argv=None, reachable=False, supervised=False, supervisor="", at_boot=False)

    def __str__(self) -> str:
        text = "Stop the server of export %s" % self.name
        if self.daemon:
            text = "Take export %s out of storage daemon %s" % (self.name, self.daemon)
        if not self.clients or (self.daemon and not self.may_lose):
            return text + "."
        cut = ", ".join(str(client) for client in self.clients[:5])
        if self.daemon:
            return "%s, cutting off those clients that use it (connected: %s); %s." % (text, cut, self.may_lose)
        return "%s, cutting off %s: %s; %s." % (text, words.counted(len(self.clients), "client"), cut, self.may_lose)


@dataclass(frozen=True)
class DeclareExport(Action[ExportState]):
    """Write down what is served, for the supervisor and for later runs."""

    name: str
    definition: Definition
    #: why this server was chosen
    why: str = ""

    def apply(self, state: ExportState) -> ExportState:
        in_unit = self.definition.options["supervisor"] == "systemd"
        return replace(
            state, definition=self.definition, at_boot=state.at_boot and (in_unit or bool(self.definition.daemon))
        )

    def __str__(self) -> str:
        options = self.definition.options
        how = "read-only" if options["read_only"] else "read-write"
        by = ", by %s: %s" % (options["server"], self.why) if self.why else ""
        return "Declare export %s: %s (%s), %s, on %s%s." % (
            self.name,
            options["image"],
            options["format"],
            how,
            options.get("socket") or options["uri"],
            by,
        )


@dataclass(frozen=True)
class StartServer(Action[ExportState]):
    """Start the server under its supervisor, and wait until it answers."""

    name: str
    definition: Definition

    def apply(self, state: ExportState) -> ExportState:
        supervisor, argv = self.definition.options["supervisor"], self.definition.argv
        started = replace(state, argv=argv, reachable=True, supervised=True, supervisor=supervisor)
        return replace(started, at_boot=supervisor == "systemd" or bool(self.definition.daemon))

    def __str__(self) -> str:
        options = self.definition.options
        if self.definition.daemon:
            told = (self.name, self.definition.daemon, options["supervisor"])
            return "Serve export %s by storage daemon %s, supervised by %s." % told
        return "Start %s for export %s, supervised by %s." % (options["server"], self.name, options["supervisor"])


@dataclass(frozen=True)
class SuperviseServer(Action[ExportState]):
    """Give a server that has lost its supervisor another one, or have its unit started at boot again; its clients notice
    nothing.
    """

    name: str
    supervisor: str = "process"
    daemon: str = ""

    def apply(self, state: ExportState) -> ExportState:
        at_boot = self.supervisor == "systemd" or bool(self.daemon)
        return replace(state, supervised=True, supervisor=self.supervisor, at_boot=at_boot)

    def __str__(self) -> str:
        return "Supervise the running server of export %s again." % self.name


@dataclass(frozen=True)
class RemoveDefinition(Action[ExportState]):
    """Nothing of the export stays on the host."""

    name: str

    def apply(self, state: ExportState) -> ExportState:
        return replace(state, definition=None, at_boot=False)

    def __str__(self) -> str:
        return "Remove the definition of export %s." % self.name
