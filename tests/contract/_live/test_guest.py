"""What a guest that runs sees of its drives, and what happens when it does not let go of one."""

from __future__ import annotations

import os
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._drive import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import DrivesSpec
from ansible_collections.platter.qemu.plugins.module_utils._live import execute, observe, plan
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp
from ansible_collections.platter.qemu.tests.lab.live_qemu import Task, image
from ansible_collections.platter.qemu.tests.lab.vm import Guest

pytestmark = pytest.mark.xdist_group("guest")
MIB = 1 << 20
CONTROLLER: Task = {"device": "virtio-scsi-pci", "id": "scsi"}


def _spec(*drives: Task) -> DrivesSpec:
    return read_spec.read({"drives": list(drives), "controllers": [CONTROLLER], "machine": "pc"})


def converge(guest: Guest, *drives: Task, seconds: float = 60.0, **how: t.Any) -> t.List[str]:
    """The steps, which must succeed and leave nothing to do."""
    wanted = _spec(*drives)
    with Qmp.connect(str(guest.qmp)) as qmp:
        steps = plan.plan(wanted, observe.observe(qmp, wanted), **how).steps
        execute.execute(qmp, steps, seconds)
        assert not plan.plan(wanted, observe.observe(qmp, wanted), **how).steps
    return [str(step) for step in steps]


def _size(guest: Guest, name: str) -> int:
    """In bytes; 0 while the guest has no such disk."""
    return int(guest.run(f"cat /sys/block/{name}/size 2>/dev/null || echo 0")) * 512


def _is_open(guest: Guest, path: object) -> bool:
    names = Path(f"/proc/{guest.process.pid}/fd")
    return any(os.path.realpath(each) == os.path.realpath(str(path)) for each in names.iterdir())


def _is_locked(guest: Guest) -> bool:
    return any(each["locked"] for each in guest.monitor.execute("query-block"))


@pytest.fixture
def disk(guest: Guest, tmp_path: Path) -> t.Iterator[Task]:
    """A virtio disk of 3 MiB, which begins with its name."""
    found = image(tmp_path / "disk", "3M")
    (tmp_path / "disk").write_bytes(b"hot-plugged".ljust(3 * MIB, b"x"))
    yield {"id": "hot", "device": "virtio-blk-pci", "serial": "HOT01", "image": found, "cache": {"direct": True}}
    converge(guest, absent=["hot"])


def test_a_guest_sees_a_disk_come_grow_be_throttled_and_go(guest: Guest, disk: Task) -> None:
    converge(guest, disk)
    guest.wait(lambda: _size(guest, "vda") == 3 * MIB, "the guest has its disk")
    assert guest.run("cat /sys/block/vda/serial; head -c 11 /dev/vda") == "HOT01hot-plugged"
    assert converge(guest, dict(disk, throttle={"bps_read": MIB // 4})) == ["Throttle hot: bps-read 262144."]
    assert _reading(guest) > 1.5
    os.truncate(disk["image"]["path"], 4 * MIB)
    converge(guest, disk)
    guest.wait(lambda: _size(guest, "vda") == 4 * MIB, "the guest knows that its disk has grown")
    assert converge(guest, absent=["hot"]) == ["Unplug hot."]
    guest.wait(lambda: not _size(guest, "vda"), "the guest has no disk any more")
    assert not _is_open(guest, disk["image"]["path"])


def _reading(guest: Guest) -> float:
    """Seconds, by the clock of this host."""
    begun = time.monotonic()
    guest.run("dd if=/dev/vda of=/dev/null bs=64k count=8 iflag=direct")
    return time.monotonic() - begun


def test_a_guest_that_lets_go_later_is_waited_for_by_the_next_run(guest: Guest, disk: Task) -> None:
    converge(guest, disk)
    guest.wait(lambda: _size(guest, "vda"), "the guest has its disk")
    guest.monitor.execute("stop")
    try:
        with pytest.raises(errors.FailedError) as pending:
            converge(guest, absent=["hot"], seconds=0.3)
        assert pending.value.facts["reason"] == "unplug_pending"
        assert _is_open(guest, disk["image"]["path"])
    finally:
        guest.monitor.execute("cont")
    guest.wait(lambda: not _size(guest, "vda"), "the guest has let go")
    converge(guest, absent=["hot"])
    assert not _is_open(guest, disk["image"]["path"])


def test_a_medium_in_use_stays_and_is_changed_when_the_guest_lets_go(guest: Guest, tmp_path: Path) -> None:
    media = [image(tmp_path / name, "1M") for name in ("one", "two")]
    for each, content in zip(media, (b"first", b"second")):
        Path(each["path"]).write_bytes(content.ljust(MIB, b"\0"))
    drive = {"id": "cd", "device": "scsi-cd", "bus": "scsi.0"}
    converge(guest, dict(drive, image=media[0]))
    guest.wait(lambda: _size(guest, "sr0"), "the guest has its CD drive")
    assert guest.run("head -c 5 /dev/sr0") == "first"
    guest.run("sleep 600 < /dev/sr0 & echo $! > /run/holder")
    guest.wait(lambda: _is_locked(guest), "the guest holds the medium")
    with pytest.raises(errors.FailedError) as locked:
        converge(guest, dict(drive, image=media[1]), seconds=1)
    assert locked.value.facts["reason"] == "tray_locked"
    assert guest.run("head -c 5 /dev/sr0") == "first"
    guest.run("kill $(cat /run/holder)")
    converge(guest, dict(drive, image=media[1]))
    guest.wait(lambda: guest.run("head -c 6 /dev/sr0 || true") == "second", "the guest reads the other medium")
    converge(guest, absent=["cd"])
    assert not _is_open(guest, media[1]["path"])
