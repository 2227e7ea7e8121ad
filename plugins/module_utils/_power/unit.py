# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The systemd unit of a VM, written and read back. Pure.

Facts: systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.kill(5).
"""

from __future__ import annotations

import posixpath
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import unit_text
from ansible_collections.platter.qemu.plugins.module_utils._power import definition
from ansible_collections.platter.qemu.plugins.module_utils._power.definition import Declared

#: seconds that QEMU has to write out what it holds, after the guest had its time
QUIT_SECONDS = 60.0


def unit_name(vm: str) -> str:
    """The letters of a name (read_spec) all stand for themselves in names of units."""
    return "platter-vm-%s.service" % vm


def as_unit(made: Declared, asks: t.Sequence[str], seconds: float) -> Declared:
    """The same, written down as a unit. C(asks): the program that has the guest power down, within C(seconds)."""
    return replace(made, text=_render(made, asks, seconds))


def parse(text: str) -> t.Optional[Declared]:
    """What a unit says; None where it was not written by us."""
    found = definition.parse(unit_text.definition_in(text))
    return replace(found, text=text) if found else None


def _render(made: Declared, asks: t.Sequence[str], seconds: float) -> str:
    vm = str(made.options["vm"])
    lines = [
        *_unit_lines(made.options),
        *_service_lines(made, asks, seconds),
        *unit_text.last_lines(definition.to_line(made)),
    ]
    return unit_text.head("qemu_vm", unit_name(vm)) + "\n".join(lines) + "\n"


def _unit_lines(options: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    yield "[Unit]"
    yield "Description=VM %s (platter.qemu)" % options["vm"]
    # which images it has is not written here, as that can change; they can lie anywhere
    yield "After=local-fs.target remote-fs.target network-online.target"
    yield "Wants=network-online.target"
    places = {posixpath.dirname(str(options["config"])), posixpath.dirname(str(options["socket"]))}
    yield "RequiresMountsFor=" + " ".join(sorted(map(unit_text.plain, places)))
    # one that fails at once is tried for some seconds
    yield "StartLimitIntervalSec=60"
    yield "StartLimitBurst=20"


def _service_lines(made: Declared, asks: t.Sequence[str], seconds: float) -> t.Iterator[str]:
    socket = str(made.options["socket"])
    yield ""
    yield "[Service]"
    yield "Type=exec"
    yield "ExecStartPre=" + unit_text.command([unit_text.SHELL, "-c", unit_text.FREE_SOCKET, "sh", socket])
    yield "ExecStart=" + unit_text.command(made.argv)
    yield "ExecStop=" + unit_text.command([*asks, socket, "%d" % seconds])
    # a guest that powers itself off stays off
    yield "Restart=on-failure"
    yield "RestartSec=500ms"
    # after ExecStop, QEMU alone is told to quit (SIGTERM), and never killed: what it holds would be lost
    yield "KillMode=mixed"
    yield "TimeoutStopSec=%d" % (seconds + QUIT_SECONDS)
    yield "SendSIGKILL=no"
    # the socket is for its owner
    yield "UMask=0177"
    yield "Environment=LC_ALL=C"
    # a thread for each processor, and many for what waits for disks
    yield "TasksMax=infinity"
    if posixpath.dirname(socket) == unit_text.RUNTIME_DIRECTORY:
        yield "RuntimeDirectory=" + posixpath.basename(unit_text.RUNTIME_DIRECTORY)
        yield "RuntimeDirectoryMode=0711"
        # others have their sockets in it too
        yield "RuntimeDirectoryPreserve=yes"
