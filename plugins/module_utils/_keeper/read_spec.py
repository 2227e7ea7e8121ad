# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Turns the options of a task into what is asked of a keeper, and refuses contradictions. Pure."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._keeper import settings
from ansible_collections.platter.qemu.plugins.module_utils._keeper.spec import KeeperSpec

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,30}\Z")


def read_spec(params: t.Mapping[str, t.Any], systemd_runs: bool) -> KeeperSpec:
    """The spec of a task's options. Raises SpecError."""
    name, state = str(params["name"]), params.get("state") or "present"
    if not _NAME.match(name):
        fact = "%r is no good name for an array" % name
        way_out = "Set name to 1 to 31 letters, digits, dots, underscores and minus signs."
        raise errors.SpecError("keeper", name, fact, reason="bad_name", way_out=way_out, joined="")
    alarm = params.get("alarm") or ()
    if alarm and not alarm[0].startswith("/"):
        fact, way_out = "the program of alarm is no absolute path", "Write /path/of/program, and its arguments."
        raise errors.SpecError("keeper", name, fact, reason="bad_option", way_out=way_out, joined="")
    supervisor = params.get("supervisor") or "auto"
    if supervisor == "auto":
        supervisor = "systemd" if systemd_runs else "process"
    told = settings.to_text(settings.from_params(params)) if state == "present" else ""
    return KeeperSpec(name, state, told, supervisor, float(params.get("timeout") or 30))
