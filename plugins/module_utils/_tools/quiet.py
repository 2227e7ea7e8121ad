# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Programs that read images without leaving access times, as QEMU's have no option for that."""

from __future__ import annotations

import functools
import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._tools import process

_ST_NOATIME = 1024
_ALONE = ("unshare", "--mount", "--propagation", "slave", "--")
#: the number of directories, they, the command. What cannot be mounted so is read as it is.
_SCRIPT = (
    'n=$1; shift; while [ "$n" -gt 0 ]; do mount -n -o rbind,noatime -- "$1" "$1" 2>/dev/null; shift; n=$((n - 1)); done; '
    'exec "$@"'
)


def quietly(argv: t.Sequence[str], directories: t.Sequence[str]) -> t.List[str]:
    """C(argv) as root runs it where it sees C(directories) mounted with noatime, if root may mount: in a namespace of its own.

    unshare(1) makes the namespace, which nobody else sees, and which ends with the program. What the host unmounts
    meanwhile is unmounted there too, where the host's mounts are shared (as systemd has them): else a file system that
    nobody has any more would keep its device for as long as the program runs.
    """
    mounted = [name for name in directories if os.path.isdir(name) and not os.statvfs(name).f_flag & _ST_NOATIME]
    if not mounted or not _may_mount():
        return list(argv)
    return [*_ALONE, "sh", "-c", _SCRIPT, "sh", str(len(mounted)), *mounted, *argv]


@functools.lru_cache(maxsize=None)
def _may_mount() -> bool:
    """Not in many containers."""
    try:
        return process.Runner()([*_ALONE, "mount", "-n", "-o", "rbind", "--", "/proc", "/proc"])[0] == 0
    except errors.EngineError:
        return False


def directories_of(node: t.Mapping[str, t.Any]) -> t.List[str]:
    """Those of the local files that a block node, and the nodes below it, name."""
    found = []
    if node.get("driver") == "file" and str(node.get("filename", "")).startswith("/"):
        found.append(os.path.dirname(os.path.realpath(node["filename"])))
    for below in node.values():
        found += directories_of(below) if isinstance(below, dict) else []
    return list(dict.fromkeys(found))
