# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a running QEMU was started with: it tells what QMP does not. Read-only."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._drive import parse_arguments
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Drive
from ansible_collections.platter.qemu.plugins.module_utils._live import foretell, image
from ansible_collections.platter.qemu.plugins.module_utils._live.state import GENERAL_ARGUMENTS
from ansible_collections.platter.qemu.plugins.module_utils._tools import qemu_process

#: one of these QEMU was started with if it speaks QMP; others can have its socket, too
_MONITORS = ("qmp", "mon", "chardev", "qmp-pretty")


class Started(t.NamedTuple):
    """C(drives): by their ids, and nodes that were described apart as drives without a device, by their names. C(directory):
    as in C(qemu_process). C(words), C(general): as in C(LiveState).
    """

    drives: t.Dict[str, Drive]
    directory: str
    words: t.Tuple[str, ...] = ()
    general: int = -1

    def drive(self, *names: str) -> t.Optional[Drive]:
        """The drive of that C(-drive), node or (where it is empty) device; the first that is known."""
        return next((self.drives[name] for name in names if name in self.drives), None)

    def place(self, drive: Drive) -> str:
        """As C(image.place), whole."""
        found = image.place(drive.backend) if drive.backend is not None else ""
        return found if found.startswith("[") else os.path.join(self.directory, found)


def of(pids: t.Iterable[int], path: str) -> Started:
    """The QEMU behind the socket C(path). Raises RefusedError (managed_by_libvirt).

    Arguments that cannot be read, or that nobody here understands, tell nothing.
    """
    for pid in sorted(pids):
        words = qemu_process.arguments(pid)
        if qemu_process.is_libvirts(words):
            raise _libvirts(path, pid)
        found = _drives(words)
        if found is not None:
            count = qemu_process.environment(pid).get(GENERAL_ARGUMENTS, "")
            general = int(count) if count.isdigit() else -1
            return Started(found, qemu_process.directory(pid), tuple(words), general)
    return Started({}, "")


def _drives(words: t.Sequence[str]) -> t.Optional[t.Dict[str, Drive]]:
    if not any(word[:1] == "-" and word.lstrip("-") in _MONITORS for word in words):
        return None
    try:
        spec = parse_arguments.parse(words).spec
    except (ValueError, errors.EngineError):
        return {}
    return {each.id: each for each in (*foretell.apart(spec), *spec.drives)}


def _libvirts(path: str, pid: int) -> errors.RefusedError:
    return errors.RefusedError(
        "changing drives",
        path,
        "the QEMU behind the socket (process %d) is libvirt's, which keeps its own account of the disks" % pid,
        reason="managed_by_libvirt",
        way_out="Use virsh attach-device, detach-device and change-media for this VM.",
        joined="behind",
        evidence={"pid": pid},
    )
