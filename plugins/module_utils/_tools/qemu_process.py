# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""A QEMU as a process of this host: what it was started with. Read-only."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._tools import processes

#: bytes of an environment that are read
_LONGEST = 1 << 20


def arguments(pid: int) -> t.List[str]:
    """What the process was started with; empty where that cannot be read."""
    try:
        return list(processes.command_line(pid))
    except OSError:
        return []


def environment(pid: int) -> t.Dict[str, str]:
    """The variables that the process was started with; empty where they cannot be read."""
    try:
        with open("/proc/%d/environ" % pid, "rb") as stream:
            words = [os.fsdecode(word) for word in stream.read(_LONGEST).split(b"\0")]
    except OSError:
        return {}
    return {name: value for name, _equals, value in (word.partition("=") for word in words)}


def directory(pid: int) -> str:
    """What relative names are relative to; empty where that cannot be read."""
    try:
        return os.readlink("/proc/%d/cwd" % pid)
    except OSError:
        return ""


def is_libvirts(words: t.Iterable[str]) -> bool:
    """Whether libvirt has started a QEMU with these arguments; it keeps its own account of the disks then."""
    words = list(words)
    return any(word.startswith("guest=") for word in words) and any("charmonitor" in word for word in words)


def libvirts(pids: t.Iterable[int]) -> t.Optional[int]:
    """The first of these processes that libvirt has started, if there is one."""
    return next((pid for pid in sorted(pids) if is_libvirts(arguments(pid))), None)
