"""Drives that come to a running QEMU, and go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._drive import styles
from ansible_collections.platter.qemu.plugins.module_utils._live import actions
from ansible_collections.platter.qemu.tests.lab.live_qemu import PORTS, SCSI, Task, image, live_qemu
from ansible_collections.platter.qemu.tests.lab.oracle import qemu_img

KINDS = {
    "virtio-blk-pci": {"serial": "V", "iothread": "io1", "queues": 2, "bootindex": 3},
    "nvme": {"serial": "N"},
    "scsi-hd": {"serial": "S", "wwn": "0x5000c50015ea71ac", "rotation_rate": 1, "share_rw": True},
    "usb-storage": {"cache": "writethrough"},
}


@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_drives_of_every_kind_are_plugged_in_with_what_they_need(tmp_path: Path, machine: str) -> None:
    drives = [
        {"id": f"d{n}", "device": kind, "image": image(tmp_path / f"{n}", "1M", format), **more}
        for n, ((kind, more), format) in enumerate(zip(KINDS.items(), ("raw", "qcow2", "qcow2", "raw")))
    ]
    with live_qemu(tmp_path, *(PORTS if machine == "q35" else ()), machine=machine) as qemu:
        spec = qemu.spec(*drives)
        done = qemu.converge(spec)
        assert [type(step) for step in done.steps].count(actions.PlugDrive) == 4 and not done.needs_restart
        assert {each.drive for each in done.drift} == {"d0", "d1", "d2", "d3", "scsi0", "usb0"}
        has = qemu.devices()
        assert {has[f"d{n}"] for n in range(4)} == set(KINDS)
        assert qemu.get("/machine/peripheral/d0", "iothread") == "/objects/io1"
        assert {"d0", "d1", "d2", "d3"} <= set(qemu.nodes())


def test_scsi_drives_are_unplugged_and_their_images_closed(tmp_path: Path) -> None:
    drives = [{"id": f"d{n}", "device": "scsi-hd", "image": image(tmp_path / f"{n}")} for n in range(3)]
    with live_qemu(tmp_path, *SCSI) as qemu:
        qemu.converge(qemu.spec(*drives))
        assert not qemu.converge(qemu.spec(drives[1])).steps
        gone = qemu.converge(qemu.spec(drives[1]), purge=True)
        assert [str(step) for step in gone.steps] == ["Unplug d0.", "Unplug d2."]
        assert {name for name in qemu.nodes() if not name.startswith(("#", "platter"))} == {"d1"}
        qemu.converge(qemu.spec(), absent=["d1"])
        assert not qemu.nodes()


def test_images_of_every_making_are_plugged_in_and_closed(tmp_path: Path) -> None:
    """Encrypted, under filters, of several files, with a place in a file, of odd names."""
    (tmp_path / "key").write_text("secret")
    secret = ("--object", f"secret,id=s,file={tmp_path}/key", "-o", "encrypt.format=luks,encrypt.key-secret=s")
    qemu_img("create", "-q", "-f", "qcow2", *secret, "-o", "encrypt.iter-time=10", tmp_path / "enc", "1M")
    parts = [{"driver": "raw", "file": _file(tmp_path / f"part{n}")} for n in range(3)]
    images: dict[str, Task] = {
        "encrypted": {"image": {"path": str(tmp_path / "enc"), "format": "qcow2"}},
        "quorum": {"image": {"blockdev": {"driver": "quorum", "vote-threshold": 2, "children": parts}}},
        "filters": {"image": image(tmp_path / "filters"), "copy_on_read": True, "throttle": {"iops_total": 5}},
        "place": {"image": dict(image(tmp_path / "place", "3M"), options={"offset": 1 << 20, "size": 1 << 20})},
        "odd": {"image": image(tmp_path / "a b,c=d:e%f", "1M", "qcow2")},
    }
    images["encrypted"]["encryption"] = {"secret_file": str(tmp_path / "key")}
    with live_qemu(tmp_path, *SCSI) as qemu:
        spec = qemu.spec(*({"id": name, "device": "scsi-hd", **more} for name, more in images.items()))
        assert len(qemu.converge(spec).steps) == len(images)
        qemu.converge(qemu.spec(), purge=True, exact=False)
        assert not qemu.nodes()
        kinds = {each["type"] for each in qemu.qmp.execute("qom-list", {"path": "/objects"})}
        assert not {"child<secret>", "child<throttle-group>"} & kinds
    with live_qemu(tmp_path, *styles.render(spec, "blockdev").words) as qemu:
        assert not any(qemu.plan(spec))
    without = replace(spec, drives=tuple(each for each in spec.drives if each.id != "quorum"))
    with live_qemu(tmp_path, *styles.render(without, "drive_device").words) as qemu:
        assert not any(qemu.plan(without))


def _file(path: Path) -> Task:
    return {"driver": "file", "filename": image(path)["path"]}
