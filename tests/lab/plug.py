"""Disks that come and go while a guest runs: each test has its own, and the guest boots once."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Iterator

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import QmpCommandError
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE, wait_until
from ansible_collections.platter.qemu.tests.lab.vm import Disk, Guest


@contextlib.contextmanager
def plugged(guest: Guest, *disks: Disk) -> Iterator[list[str]]:
    """SCSI disks while the block runs; gives their names in the guest. Afterwards QEMU has closed their files."""
    known = _nodes(guest)
    with contextlib.ExitStack() as undo:
        undo.callback(_close, guest, known)
        yield [_plug(guest, disk, undo) for disk in disks]


def _plug(guest: Guest, disk: Disk, undo: contextlib.ExitStack) -> str:
    before = _seen(guest)
    if disk.legacy:
        options = f"file={disk.path},format={disk.format},if=none,id={disk.name}"
        guest.monitor.execute("human-monitor-command", {"command-line": f"drive_add 0 {options}"})
    else:
        for node in disk.nodes():
            guest.monitor.execute("blockdev-add", node)
    device = {"driver": "scsi-hd", "bus": "scsi.0", "id": f"{disk.name}-device", "drive": disk.name}
    guest.monitor.execute("device_add", device)
    undo.callback(_unplug, guest, device["id"], before)
    guest.wait(lambda: _seen(guest) - before, "the guest sees its new disk")
    return f"/dev/{(_seen(guest) - before).pop()}"


def _seen(guest: Guest) -> set[str]:
    """The SCSI disks that the guest knows."""
    return set(guest.run("cd /sys/block; echo sd*").split()) - {"sd*"}


def _unplug(guest: Guest, device: str, before: set[str]) -> None:
    """The guest lets go of a SCSI disk at once; what -drive has made goes with its device. QEMU does not wait for that: a
    guest that has not yet seen it go gives the next disk the same name, which is then not taken for a new one.
    """
    guest.monitor.execute("device_del", {"id": device})
    deadline = time.monotonic() + DEADLINE
    assert guest.monitor.wait_event(lambda event: _is_end_of(event, device), deadline), f"{device} is still there"
    if guest.process.poll() is None:
        guest.wait(lambda: _seen(guest) <= before, "the guest has seen its disk go")


def _is_end_of(event: dict[str, Any], device: str) -> bool:
    return bool(event["event"] == "DEVICE_DELETED" and event["data"].get("device") == device)


def _close(guest: Guest, known: set[str]) -> None:
    """Nodes that others have as their children can go when those have gone."""

    def tried() -> bool:
        for name in _nodes(guest) - known:
            with contextlib.suppress(QmpCommandError):
                guest.monitor.execute("blockdev-del", {"node-name": name})
        return not _nodes(guest) - known

    wait_until(tried, "all nodes of the disks are closed")


def _nodes(guest: Guest) -> set[str]:
    return {node["node-name"] for node in guest.monitor.execute("query-named-block-nodes", {"flat": True})}
