# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The systemd of this host: whether it runs, what it says of units, and what it is told to do."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, unit_text
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, process

#: sd_booted(3)
_RUNS = "/run/systemd/system"
#: seconds; a start waits for what the unit needs
PATIENCE = 120.0
_PROPERTIES = ("Id", "LoadState", "ActiveState", "MainPID", "NeedDaemonReload")

#: the properties of a unit (org.freedesktop.systemd1(5)), as text
Properties = t.Mapping[str, str]


def runs() -> bool:
    """Whether it is what started this host (or this container)."""
    return os.path.isdir(_RUNS) and not os.path.islink(_RUNS)


def show(run: process.RunCommand, units: t.Sequence[str]) -> t.Dict[str, Properties]:
    """What it knows of each of C(units), in one call. Also of units that do not exist."""
    if not units:
        return {}
    argv = ["systemctl", "show", "--property=" + ",".join(_PROPERTIES), "--", *units]
    told = process.run(run, argv, timeout=PATIENCE)[1]
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in told.split("\n\n")]
    if len(blocks) != len(units):
        raise errors.ToolOutputError("systemctl show told of %d units instead of %d" % (len(blocks), len(units)))
    return dict(zip(units, blocks))


def tell(run: process.RunCommand, *words: str, timeout: float = PATIENCE) -> None:
    """C(systemctl) with these words. Raises ToolError when it fails, ToolTimeoutError when that takes too long."""
    process.run(run, ["systemctl", *words], timeout=timeout)


def last_words(run: process.RunCommand, unit: str, lines: int) -> t.List[str]:
    """What the processes of a unit have said last; nothing where there is no journal."""
    argv = ["journalctl", "--no-pager", "--output=cat", "--lines=%d" % lines, "_SYSTEMD_UNIT=" + unit]
    try:
        return process.run(run, argv, timeout=PATIENCE)[1].splitlines()
    except errors.EngineError:
        return []


def unit_of(pid: int) -> str:
    """The name of the service that a process belongs to (cgroups(7)); empty for none."""
    try:
        with open("/proc/%d/cgroup" % pid, "rb") as stream:
            names = [os.fsdecode(line.rstrip(b"\n")).rpartition("/")[2] for line in stream]
    except OSError:
        return ""
    return next((name for name in names if name.endswith(".service")), "")


def enable(unit: str) -> None:
    """Have it started at boot, as C(systemctl enable) does; that would have systemd read all its units each time."""
    link = unit_text.wants_link(unit)
    with contextlib.suppress(FileExistsError):
        os.mkdir(os.path.dirname(link), 0o755)
    if not os.path.lexists(link):
        os.symlink(unit_text.unit_file(unit), link)
        files.fsync_path(os.path.dirname(link))


def disable(unit: str) -> None:
    """As C(systemctl disable) does."""
    link = unit_text.wants_link(unit)
    if os.path.lexists(link):
        os.unlink(link)
        files.fsync_path(os.path.dirname(link))


def reload(run: process.RunCommand, failed: t.Sequence[str]) -> None:
    """Have it read its units again, and forget that those called C(failed) have failed."""
    tell(run, "daemon-reload")
    if failed:
        with contextlib.suppress(errors.ToolError):  # it has forgotten some already
            tell(run, "reset-failed", "--", *failed)


def remove(unit: str) -> None:
    """What the administrator has added (drop-ins) stays."""
    disable(unit)
    with contextlib.suppress(FileNotFoundError):  # a killed run has come so far
        os.unlink(unit_text.unit_file(unit))
    files.fsync_path(unit_text.DIRECTORY)
