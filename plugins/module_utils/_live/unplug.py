# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a guest has to agree to: that a device goes, and that a tray opens."""

from __future__ import annotations

import contextlib
import time
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, words
from ansible_collections.platter.qemu.plugins.module_utils._live import actions
from ansible_collections.platter.qemu.plugins.module_utils._live.state import LiveDrive
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Event, Qmp

#: in which a device is gone that needs no guest for that
_PAUSED_SECONDS = 1.0


class Pending:
    """Devices that were asked to go. C(paused): the VM is not running, so that only what needs no guest for it will go."""

    def __init__(self, qmp: Qmp, paused: bool) -> None:
        self._qmp = qmp
        self.paused = paused
        self._most = time.monotonic() + (_PAUSED_SECONDS if paused else float("inf"))

    def gone(self, step: actions.UnplugDrive, deadline: float) -> bool:
        """Wait for the guest, until the deadline; false when it has not let go by then. One that is paused is not waited for."""
        path = step.live.path
        if not path or not _is_there(self._qmp, path):
            return True
        event = self._qmp.wait_event(lambda each: _is_end_of(each, step.live), min(deadline, self._most))
        return event is not None or not _is_there(self._qmp, path)


def _is_end_of(event: Event, live: LiveDrive) -> bool:
    data = event.get("data", {})
    return bool(event["event"] == "DEVICE_DELETED" and data.get("path") == live.path)


def _is_there(qmp: Qmp, path: str) -> bool:
    try:
        qmp.execute("qom-get", {"path": path, "property": "type"})
    except errors.QmpCommandError:
        return False
    return True


def ask(qmp: Qmp, steps: t.Sequence[actions.UnplugDrive]) -> Pending:
    """Ask all guests' devices to go at once: they have the same time for it. Raises QmpCommandError."""
    for step in steps:
        if step.live.path:
            _take_out(qmp, step.live)
            _ask(qmp, step.live)
    return Pending(qmp, bool(steps) and not qmp.execute("query-status")["running"])


def _take_out(qmp: Qmp, live: LiveDrive) -> None:
    """What was put into a drive that was made empty stays in use when the drive goes, until QEMU ends (measured, 7.2). The guest
    is about to lose it, so that its lock on the tray does not count.
    """
    if live.removable and live.medium is not None:
        with contextlib.suppress(errors.QmpCommandError):  # it has no tray, or has gone
            qmp.execute("blockdev-open-tray", {"id": live.qdev, "force": True})
            qmp.execute("blockdev-remove-medium", {"id": live.qdev})


def _ask(qmp: Qmp, live: LiveDrive) -> None:
    """A device that was asked before, by a run that did not wait for it to the end, is asked again by QEMU's own rules."""
    try:
        qmp.execute("device_del", {"id": live.path})
    except errors.QmpCommandError as exc:
        if exc.error_class != "DeviceNotFound" and "in the process of unplug" not in exc.desc:
            raise


def still_there(drives: t.Sequence[str], seconds: float, paused: bool) -> errors.FailedError:
    """The guest did not let go."""
    fact, way_out = (
        "The guest did not answer within %s" % words.counted(int(seconds), "second"),
        "Run the task again then",
    )
    if paused:
        fact, way_out = "The VM is paused, and its guest cannot answer", "Let the VM run, and run the task again"
    return errors.FailedError(
        "failed at: Unplug %s. %s: the VM still has it, and lets go of it when the guest agrees. %s, to close the image."
        % (", ".join(drives), fact, way_out),
        reason="unplug_pending",
        drives=list(drives),
    )


def open_tray(qmp: Qmp, live: LiveDrive, deadline: float) -> None:
    """Raises FailedError (tray_locked): the guest holds its medium, and did not let go until the deadline.

    QEMU only asks the guest then, and reports a success (C(qmp_blockdev_open_tray)).
    """
    qmp.execute("blockdev-open-tray", {"id": live.qdev})
    if _is_closed(qmp, live) and qmp.wait_event(lambda event: _opens(event, live), deadline) is None:
        raise errors.FailedError(
            "failed at: Open the tray of %s. The guest has locked it and did not let go: its medium is in use there, and "
            "still in. Unmount it in the guest, and run the task again." % live.id,
            reason="tray_locked",
            drives=[live.id],
        )


def _is_closed(qmp: Qmp, live: LiveDrive) -> bool:
    """What has no tray is open."""
    told = (each for each in qmp.execute("query-block") if each.get("qdev") == live.qdev)
    return any(each.get("tray_open") is False for each in told)


def _opens(event: Event, live: LiveDrive) -> bool:
    data = event.get("data", {})
    return (
        event["event"] == "DEVICE_TRAY_MOVED"
        and data.get("tray-open") is True
        and data.get("id") in (live.qdev, live.device_id)
    )
