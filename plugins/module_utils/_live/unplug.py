# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a guest has to agree to: that a device goes, and that a tray opens."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._live import actions
from ansible_collections.platter.qemu.plugins.module_utils._live.state import LiveDrive
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Event, Qmp


class Pending:
    """Devices that were asked to go."""

    def __init__(self, qmp: Qmp) -> None:
        self._qmp = qmp

    def gone(self, step: actions.UnplugDrive, deadline: float) -> bool:
        """Wait for the guest, until the deadline; false when it has not let go by then."""
        path = step.live.path
        if not path or not _is_there(self._qmp, path):
            return True
        event = self._qmp.wait_event(lambda each: _is_end_of(each, step.live), deadline)
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
            _ask(qmp, step.live)
    return Pending(qmp)


def _ask(qmp: Qmp, live: LiveDrive) -> None:
    """A device that was asked before, by a run that did not wait for it to the end, is asked again by QEMU's own rules."""
    try:
        qmp.execute("device_del", {"id": live.path})
    except errors.QmpCommandError as exc:
        if exc.error_class != "DeviceNotFound" and "in the process of unplug" not in exc.desc:
            raise


def still_there(drives: t.Sequence[str], seconds: float) -> errors.FailedError:
    """The guest did not let go."""
    return errors.FailedError(
        "failed at: Unplug %s. The guest did not answer within %d seconds: the VM still has it, and lets go of it when the "
        "guest agrees. Run the task again then, to close the image." % (", ".join(drives), seconds),
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
