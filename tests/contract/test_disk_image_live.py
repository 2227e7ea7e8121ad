"""An image that a VM has open grows by its QEMU, which tells the guest; nothing else of it changes meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.drive_qemu import QEMU, started
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create

MIB = 1 << 20
#: what is between the node "image" and the device
FILTERED = {
    "throttle": ["-blockdev", "driver=throttle,node-name=top,throttle-group=limits,file=image"],
    "both": [
        *("-blockdev", "driver=copy-on-read,node-name=reader,file=image"),
        *("-blockdev", "driver=throttle,node-name=top,throttle-group=limits,file=reader"),
    ],
}


@pytest.fixture
def told(tmp_path: Path) -> dict[str, Any]:
    """The options of a task about an overlay."""
    create(tmp_path / "base", "qcow2", "16M")
    create(tmp_path / "disk", "qcow2", "", "", "-b", tmp_path / "base", "-F", "qcow2")
    return {"path": str(tmp_path / "disk"), "format": "qcow2", "size": "32M", "qmp_socket": str(tmp_path / "qmp")}


def vm(tmp_path: Path, told: dict[str, Any], name: str = "qmp", *more: str) -> Any:
    """A QEMU that has it open."""
    drive = f"if=virtio,file={told['path']},format={told['format']},file.locking=off"
    return started(tmp_path / name, QEMU, "-m", "32", "-drive", drive, *more)


def seen(told: dict[str, Any]) -> int:
    """The bytes that the guest's device has, by QEMU's own answer."""
    with Qmp.connect(told["qmp_socket"]) as qmp:
        (disk,) = [each for each in qmp.execute("query-block") if each.get("inserted")]
        return int(disk["inserted"]["image"]["virtual-size"])


@pytest.mark.parametrize("format", ["qcow2", "raw"])
def test_it_grows_while_the_vm_runs(tmp_path: Path, told: dict[str, Any], format: str) -> None:
    if format == "raw":
        told.update(format="raw", path=str(create(tmp_path / "raw", "raw", "16M")))
    with vm(tmp_path, told):
        real = four_beats(**told)
        assert real["actions"] == [f"Grow {told['path']} from 16 MiB to 32 MiB."] and seen(told) == 32 * MIB
        assert [command[2] for command in real["commands"] if command[0] == "qmp"][-1] == "block_resize"
    four_beats(**dict(told, size="48M"))  # the socket that is left leads to nobody


@pytest.mark.parametrize("filters", FILTERED.values(), ids=FILTERED)
def test_it_grows_below_the_filters_that_a_drive_has(tmp_path: Path, told: dict[str, Any], filters: list[str]) -> None:
    limits = ["-object", "throttle-group,id=limits,x-iops-total=1000"]
    node = ["-blockdev", f"driver=qcow2,node-name=image,file.driver=file,file.filename={told['path']}"]
    with started(tmp_path / "qmp", QEMU, *limits, *node, *filters, "-device", "virtio-blk-pci,drive=top"):
        real = call("disk_image", **told)  # in check mode too the image changes by itself, by what is read
        settled(**told)
        assert real["actions"] == [f"Grow {told['path']} from 16 MiB to 32 MiB."] and seen(told) == 32 * MIB


def test_what_the_qemu_cannot_do_meanwhile_is_refused(tmp_path: Path, told: dict[str, Any]) -> None:
    with vm(tmp_path, told):
        for more in (
            {"qmp_socket": None},
            {"options": {"lazy_refcounts": True}},
            {"size": "8M", "allow_shrink": True, "discard_data": True},
            {"flatten": True, "size": None},
        ):
            refused("image_in_use", **dict(told, **more))
        with vm(tmp_path, told, "other"):
            refused("image_in_use", **told)
        assert seen(told) == 16 * MIB


def test_another_qemus_socket_does_not_help(tmp_path: Path, told: dict[str, Any]) -> None:
    other = dict(told, path=str(create(tmp_path / "else", "qcow2", "16M")))
    with vm(tmp_path, told, "first"), vm(tmp_path, other):
        refused("image_in_use", **told)


def test_what_only_an_overlay_writes_to_is_not_grown(tmp_path: Path, told: dict[str, Any]) -> None:
    with vm(tmp_path, told):
        refused("has_overlays", **dict(told, path=str(tmp_path / "base")))
