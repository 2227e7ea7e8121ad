"""Guests that do not answer, steps that fail, and runs that are killed between any two things they say to QEMU."""

from __future__ import annotations

import os
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._live import execute, plan
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp
from ansible_collections.platter.qemu.tests.lab.live_qemu import PORTS, SCSI, LiveQemu, image, live_qemu
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


class KilledError(Exception):
    """In the place of SIGKILL."""


class DyingQmp(Qmp):
    """Its client dies when it has said so much; what it said last has been carried out, and nobody has heard the answer."""

    left = 10**6

    def execute(self, command: str, *more: t.Any, **named: t.Any) -> t.Any:
        """As always, until then."""
        answer = super().execute(command, *more, **named)
        self.left -= not command.startswith(("query-", "qom-get", "qom-list", "x-debug"))
        if self.left < 0:
            raise KilledError
        return answer


def _killed_after(qemu: LiveQemu, spec: t.Any, commands: int, **how: t.Any) -> bool:
    """Whether the work was cut off."""
    steps = plan.plan(spec, qemu.observe(spec), **how).steps
    with DyingQmp.connect(str(qemu.socket)) as qmp:
        qmp.left = commands  # type: ignore[attr-defined]
        try:
            execute.execute(qmp, steps, DEADLINE)
        except KilledError:
            return True
    return False


def test_a_run_that_is_killed_anywhere_is_mended_by_the_next(tmp_path: Path) -> None:
    """Plugged in with all that they need, changed, unplugged."""
    os.link(image(tmp_path / "a.iso")["path"], tmp_path / "c.iso")
    one = {"id": "one", "device": "scsi-hd", "image": image(tmp_path / "one"), "throttle": {"iops_total": 3}}
    two = {"id": "two", "device": "usb-storage", "image": image(tmp_path / "two", "1M", "qcow2")}
    empty = {"id": "cd", "device": "scsi-cd", "bus": "scsi0.0", "scsi_id": 5}
    with live_qemu(tmp_path, *SCSI, "-device", "scsi-cd,id=cd,bus=scsi0.0,scsi-id=5", machine="pc") as qemu:
        nothing = qemu.spec(empty)
        full = dict(empty, image=image(tmp_path / "a.iso"))
        for wanted in (qemu.spec(one, two, full), qemu.spec(one, dict(full, image=image(tmp_path / "b.iso"))), nothing):
            _killed_at_each(qemu, wanted)
        assert not qemu.nodes()


def _killed_at_each(qemu: LiveQemu, wanted: t.Any) -> None:
    commands = 0
    while _killed_after(qemu, wanted, commands, purge=True):
        commands += 1
        assert commands < 60
    last = plan.plan(wanted, qemu.observe(wanted), purge=True)
    assert not last.steps and not last.needs_restart, last
