"""Guests that do not answer, and steps that fail."""

from __future__ import annotations

import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.tests.lab.live_qemu import PORTS, SCSI, image, live_qemu
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE


def test_an_unplug_that_nobody_answers_is_no_success_and_what_needs_no_guest_is_done(tmp_path: Path) -> None:
    """A guest that does not run never lets go of a device in a PCI Express port."""
    ignored = {"id": "ignored", "device": "virtio-blk-pci", "image": image(tmp_path / "ignored")}
    scsi = {"id": "scsi", "device": "scsi-hd", "image": image(tmp_path / "scsi")}
    more = {"id": "more", "device": "virtio-blk-pci", "image": image(tmp_path / "more")}
    with live_qemu(tmp_path, *SCSI, *PORTS) as qemu:
        qemu.converge(qemu.spec(ignored, scsi))
        for _again in range(2):
            with pytest.raises(errors.FailedError) as pending:
                qemu.converge(qemu.spec(more), seconds=0.2, purge=True)
            assert pending.value.facts == {"reason": "unplug_pending", "drives": ["ignored"]}
            assert {"ignored", "more"} <= qemu.nodes().keys() and "scsi" not in qemu.nodes()
        qemu.qmp.execute("system_reset")  # the port lets go then
        assert qemu.qmp.wait_event(_lets_go, time.monotonic() + DEADLINE)
        assert [str(each) for each in qemu.converge(qemu.spec(more), purge=True).steps] == [
            "Remove the unused nodes of ignored, which a run before has left."
        ]


def _lets_go(event: t.Dict[str, t.Any]) -> bool:
    return bool(event["event"] == "DEVICE_DELETED" and event["data"].get("device") == "ignored")


def test_a_drive_that_cannot_be_plugged_in_leaves_nothing(tmp_path: Path) -> None:
    good = {"id": "good", "device": "scsi-hd", "image": image(tmp_path / "good")}
    bad = {
        "id": "bad",
        "device": "scsi-hd",
        "image": image(tmp_path / "bad", "1M", "qcow2"),
        "properties": {"scsi-id": 999},
    }
    bad.update(throttle={"iops_total": 5})
    with live_qemu(tmp_path, *SCSI) as qemu:
        with pytest.raises(errors.FailedError) as failed:
            qemu.converge(qemu.spec(good, bad))
        assert failed.value.facts["reason"] == "plug_failed" and "bad scsi device id" in failed.value.message
        assert {name for name in qemu.nodes() if name[0] != "#" and "platter" not in name} == {"good"}
        assert "bad" not in {each["name"] for each in qemu.qmp.execute("qom-list", {"path": "/objects"})}
