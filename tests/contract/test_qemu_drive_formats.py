"""What a drive opens is of the format that it declares: QEMU takes anything for raw, and the guest would write over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._vm import places
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused
from ansible_collections.platter.qemu.tests.lab.loops import HAVE_LOOPS, attached
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create


@pytest.fixture
def vm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(places, "registry", lambda: str(tmp_path / "registry"))
    (tmp_path / "vms").mkdir()
    return {"vm": "web1", "config": str(tmp_path / "vms" / "web1"), "validate": "none"}


def on(path: Path, format: str, **more: Any) -> list[dict[str, Any]]:
    return [{"id": "sys", "image": {"path": str(path), "format": format, **more}, "device": "virtio-blk-pci"}]


def begin_as_qcow2(path: Path) -> None:
    """As a guest can write it into its raw disk."""
    with path.open("r+b") as disk:
        disk.write(create(path.parent / "other", "qcow2", "16M").read_bytes()[:512])


@pytest.mark.parametrize(
    ("made", "asked", "found", "way_out"),
    [
        ("qcow2", "raw", ["qcow2"], "Set image.format to qcow2; or"),
        ("vpc", "raw", ["vpc"], "Set image.format to vpc; or"),
        ("vmdk", "qcow2", ["vmdk"], "Set image.format to vmdk"),
        ("raw", "qcow2", [], "set image.format to raw"),
    ],
)
def test_another_format_is_refused(
    tmp_path: Path, vm: dict[str, Any], made: str, asked: str, found: list[str], way_out: str
) -> None:
    path = create(tmp_path / "a", made, "16M", "subformat=fixed" if made == "vpc" else "")
    refusal = refused("format_mismatch", drives=on(path, asked), watch=[path], **vm)
    assert refusal["evidence"] == {"place": str(path), "asked": asked, "found": found}
    assert way_out in refusal["msg"] and "drive sys of VM web1" in refusal["msg"]


def test_raw_that_begins_like_an_image_can_be_meant(tmp_path: Path, vm: dict[str, Any]) -> None:
    path = create(tmp_path / "a", "raw", "16M")
    begin_as_qcow2(path)
    told = refused("format_mismatch", drives=on(path, "raw"), **vm)["msg"]
    assert "image.options: {offset: 0}" in told
    four_beats(drives=on(path, "raw", options={"offset": 0}), **dict(vm, validate="device"))


def test_what_was_made_raw_is_raw(tmp_path: Path, vm: dict[str, Any]) -> None:
    path = tmp_path / "a"
    prepared("disk_image", path=str(path), format="raw", size="16M")
    begin_as_qcow2(path)
    four_beats(drives=on(path, "raw"), **vm)
    told = refused("format_mismatch", drives=on(path, "qcow2"), **vm)["msg"]
    assert "was made raw by disk_image" in told


def test_a_guest_cannot_keep_others_from_changing_its_vm(tmp_path: Path, vm: dict[str, Any]) -> None:
    path = create(tmp_path / "a", "raw", "16M")
    four_beats(drives=on(path, "raw"), **vm)
    begin_as_qcow2(path)
    four_beats(drives=[dict(on(path, "raw")[0], serial="new")], **vm)


@pytest.mark.skipif(not HAVE_LOOPS, reason="needs root and loop devices")
def test_a_blank_device_is_one_on_which_the_image_is_still_to_be_made(tmp_path: Path, vm: dict[str, Any]) -> None:
    """As an earlier task would have made it, that is in check mode: a file would not be there at all."""
    with attached(create(tmp_path / "a", "raw", "16M")) as device:
        drives = on(Path(device), "qcow2")
        for level in ("none", "syntax"):
            told = call("qemu_drive", check=True, drives=drives, **dict(vm, validate=level))
            assert told["changed"] and not told.get("failed"), told
        told = refused("format_mismatch", drives=drives, **dict(vm, validate="open"))
        assert f"{device} is not of qcow2, nor of another format that is known" in told["msg"]
        begin_as_qcow2(Path(device))
        refused("format_mismatch", drives=on(Path(device), "raw"), **dict(vm, validate="syntax"))
