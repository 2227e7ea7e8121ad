"""Snapshots with the memory of a running VM: it goes on from there, disk and memory of one moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.tests.lab.guest import check
from ansible_collections.platter.qemu.tests.lab.load import pauses, writing
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create, info
from ansible_collections.platter.qemu.tests.lab.sequence import Layout, written_up_to
from ansible_collections.platter.qemu.tests.lab.vm import Disk, Guest, running_guest

pytestmark = pytest.mark.xdist_group("guest")
LAYOUT = Layout(slots=64)


def task(guest: Guest, image: Path, **more: Any) -> dict[str, Any]:
    result = call("image_snapshot", image=str(image), format="qcow2", qmp_socket=str(guest.qmp), **more)
    assert not result.get("failed") and result["changed"], result.get("msg", result)
    return result


@pytest.mark.parametrize("legacy", (False, True))
def test_the_vm_goes_on_from_there(tmp_path: Path, legacy: bool) -> None:
    image = create(tmp_path / "disk.qcow2", "qcow2", LAYOUT.size)
    with running_guest(tmp_path, Disk(image, legacy=legacy)) as guest, writing(guest, LAYOUT, "/dev/vda") as writer:
        guest.run("echo before >/run/state")
        before = writer.goes_on()
        with pauses(guest) as seen:
            task(guest, image, name="all", memory=True)
        after = writer.goes_on()
        assert seen.stopped > 0
        again = call(
            "image_snapshot", image=str(image), format="qcow2", qmp_socket=str(guest.qmp), name="all", memory=True
        )
        assert not again.get("failed") and not again["changed"], again

        guest.run("echo after >/run/state")
        refused = call(
            "image_snapshot", image=str(image), format="qcow2", qmp_socket=str(guest.qmp), name="all", state="reverted"
        )
        assert refused["failed"] and not refused["changed"] and refused["reason"], refused
        assert refused["msg"].endswith(" Or set memory to true: the snapshot was taken so."), refused["msg"]
        later = writer.written()
        task(guest, image, name="all", memory=True, state="reverted", save_as="left")
        assert guest.run("cat /run/state") == "before\n"
        assert guest.monitor.execute("query-status")["status"] == "running"
        back = writer.written()
        assert before <= back
        writer.goes_on()

        task(guest, image, name="left", memory=True, state="reverted", save=False)
        assert guest.run("cat /run/state") == "after\n"
        assert writer.goes_on() > later > after > before
        writer.stop()
        guest.power_off()
    assert {each["name"] for each in info(image, "qcow2")["snapshots"]} == {"all", "left"}
    assert all(each["vm-state-size"] > 1 << 20 for each in info(image, "qcow2")["snapshots"])
    assert before <= written_up_to(image, "qcow2", LAYOUT, "-l", "snapshot.name=all") <= after
    assert later <= written_up_to(image, "qcow2", LAYOUT, "-l", "snapshot.name=left")
    assert written_up_to(image, "qcow2", LAYOUT) - writer.last in (0, 1)
    found = check(image, "qcow2")
    assert not found.get("corruptions") and not found.get("leaks"), found
