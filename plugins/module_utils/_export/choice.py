# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Which server serves an export. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._export import refuse, servers
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec


class Choice(t.NamedTuple):
    """C(why): why it was chosen, as the end of a sentence; empty where there was nothing to choose."""

    server: str
    why: str = ""


def choose(spec: ExportSpec, installed: t.Container[str], declared: str = "") -> Choice:
    """The server of the export C(spec). C(installed): the names of those that are there; C(declared): by which it is
    served now, or was. Raises RefusedError (server_cannot, tool_missing).
    """
    if spec.server != "auto":
        return _asked(spec, installed)
    if declared in installed and declared in servers.PROGRAMS and not servers.of(declared).cannot(spec):
        return Choice(declared)
    unable = {name: servers.of(name).cannot(spec) for name in servers.ORDER}
    able = [name for name in servers.ORDER if not unable[name]]
    if not able:
        raise refuse.server_cannot(spec, "; ".join("%s %s" % pair for pair in unable.items()), able)
    there = [name for name in able if name in installed]
    if not there:
        raise refuse.no_server(spec, [servers.PROGRAMS[name] for name in able])
    if spec.daemon is not None:
        return Choice(there[0], "a daemon is named")
    passed_over = servers.ORDER[: servers.ORDER.index(there[0])]
    reasons = ["%s %s" % (name, unable[name] or "is not installed") for name in passed_over]
    return Choice(there[0], "; ".join(reasons) or "it can do all that is asked")


def _asked(spec: ExportSpec, installed: t.Container[str]) -> Choice:
    problem = servers.of(spec.server).cannot(spec)
    if problem:
        able = [name for name in servers.ORDER if not servers.of(name).cannot(spec)]
        raise refuse.server_cannot(spec, "%s %s" % (spec.server, problem), able)
    if spec.server not in installed:
        raise refuse.no_server(spec, [servers.PROGRAMS[spec.server]])
    return Choice(spec.server)
