# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Turns the options of a task about the process of a VM into a value. Pure."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._power.spec import PowerSpec

#: as C(qemu_drive) has it: as a name of a file, of a unit of systemd, and in -name it stands for itself
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}\Z")
#: where definitions are, unless the task says otherwise
_DIRECTORY = "/etc/platter/vm"
#: bytes of the name of a Unix socket (unix(7))
_LONGEST_SOCKET = 107


def read_spec(params: t.Mapping[str, t.Any], directory: str) -> PowerSpec:
    """C(directory): where sockets lie that no task names. Raises SpecError."""
    vm = str(params.get("vm") or "")
    if not _NAME.match(vm):
        raise _refused(vm, "%r is no name for it" % vm, "bad_name", "Use 1 to 48 letters, digits, dots and the like.")
    spec = PowerSpec(
        vm,
        str(params.get("config") or "%s/%s" % (_DIRECTORY, vm)).rstrip("/"),
        str(params.get("qmp_socket") or "%s/%s.qmp" % (directory, vm)),
        params.get("state") or "started",
        params.get("supervisor") or "auto",
        float(params["start_timeout"]),
        float(params["stop_timeout"]),
        bool(params.get("allow_power_off")),
    )
    for wrong, fact, reason, way_out in _contradictions(spec):
        if wrong:
            raise _refused(vm, fact, reason, way_out)
    return spec


def _contradictions(spec: PowerSpec) -> t.Iterator[t.Tuple[t.Any, str, str, str]]:
    for name, path in (("config", spec.config), ("qmp_socket", spec.qmp_socket)):
        wrong = not path.startswith("/") or "\0" in path or "/../" in path + "/"
        yield wrong, "%s %s is not an absolute path" % (name, path), "bad_path", "Write one from / on."
    too_long = len(spec.qmp_socket.encode("utf-8", "surrogateescape")) > _LONGEST_SOCKET
    fact = "the name of the socket has more than %d bytes" % _LONGEST_SOCKET
    yield too_long, fact, "bad_path", "Set qmp_socket to a shorter path."
    for name, seconds in (("start_timeout", spec.start_timeout), ("stop_timeout", spec.stop_timeout)):
        yield seconds < 1, "%s is less than a second" % name, "bad_option", "Give the VM time."


def _refused(vm: str, fact: str, reason: str, way_out: str) -> errors.SpecError:
    return errors.SpecError("the process", "VM " + vm, fact, reason=reason, way_out=way_out, joined="of")
