"""No image, device or export is claimed by two VMs, nor taken from a process that has it open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._vm import places
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.drive_qemu import QEMU, started
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.programs import exported


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The links to all VMs, of this test only."""
    path = tmp_path / "registry"
    monkeypatch.setattr(places, "registry", lambda: str(path))
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return create(tmp_path / "a.qcow2", "qcow2", "16M")


def asked(tmp_path: Path, vm: str, image: Any, format: str = "qcow2", **more: Any) -> dict[str, Any]:
    """A VM with one drive on a file, or on a node. Without a proof, which other tests are about."""
    named = {"blockdev": image} if isinstance(image, dict) else {"path": str(image), "format": format}
    drive = {"id": "d", "image": named, "device": "virtio-blk-pci", **more}
    return {"vm": vm, "config": str(tmp_path / "vms" / vm), "drives": [drive], "validate": "none"}


@pytest.fixture(autouse=True)
def first(tmp_path: Path, image: Path, registry: Path) -> dict[str, Any]:
    """The image is that of VM one."""
    (tmp_path / "vms").mkdir()
    options = asked(tmp_path, "one", image)
    four_beats(**options)
    return options


def test_the_same_file_by_any_name_is_refused(tmp_path: Path, image: Path) -> None:
    os.symlink(image, tmp_path / "link")
    os.link(image, tmp_path / "hard")
    for name in (image, tmp_path / "link", tmp_path / "hard"):
        refusal = refused("image_claimed", **asked(tmp_path, "two", name))
        assert refusal["evidence"] == {
            "vm": "one",
            "config": str(tmp_path / "vms" / "one"),
            "drive": "d",
            "place": str(name),
        }
    prepared("qemu_drive", vm="one", config=str(tmp_path / "vms" / "one"), state="absent")
    four_beats(**asked(tmp_path, "two", tmp_path / "link"))


def test_a_vm_elsewhere_is_known_by_its_record(tmp_path: Path, image: Path, registry: Path) -> None:
    options = {**asked(tmp_path, "two", image), "config": str(tmp_path / "elsewhere")}
    refused("image_claimed", **options)
    assert os.readlink(registry / "one") == str(tmp_path / "vms" / "one")
    refused("name_taken", **{**asked(tmp_path, "one", tmp_path / "x"), "config": str(tmp_path / "elsewhere")})


def test_a_vm_that_is_defined_elsewhere_is_not_absent(tmp_path: Path, first: dict[str, Any]) -> None:
    for check in (True, False):
        refusal = call("qemu_drive", check=check, vm="one", state="absent")
        assert (refusal["failed"], refusal["reason"], refusal["changed"]) == (True, "name_taken", False)
        assert refusal["evidence"] == {"config": first["config"]} and "Set config to that directory." in refusal["msg"]
    settled(vm="one", config=str(tmp_path / "elsewhere"), state="absent")
    four_beats(vm="one", config=first["config"], state="absent")
    assert not call("qemu_drive", vm="one", state="absent")["changed"]


def test_an_image_that_came_to_be_a_base_is_told_until_the_definition_names_the_overlay(
    tmp_path: Path, first: dict[str, Any], image: Path
) -> None:
    assert "warnings" not in call("qemu_drive", **first)
    overlay = create(tmp_path / "over", "qcow2", "", "", "-b", image, "-F", "qcow2")
    for _again in range(2):
        told = call("qemu_drive", vm="one", config=first["config"])
        said = (
            f"drive d of VM one is defined on {image}, which is the backing file of {overlay}. What the VM writes there"
        )
        assert not told["changed"] and said in str(told["warnings"]), told
        assert "its program start refuses to start it" in str(told["warnings"])
    assert "warnings" not in call("qemu_drive", **asked(tmp_path, "one", overlay))


def test_who_only_reads_disturbs_nobody_who_only_reads(tmp_path: Path) -> None:
    iso = create(tmp_path / "iso", "raw", "1M")
    cd = {"device": "scsi-cd"}
    four_beats(**asked(tmp_path, "three", iso, "raw", **cd))
    four_beats(**asked(tmp_path, "four", iso, "raw", **cd))
    refused("image_claimed", **asked(tmp_path, "five", iso, "raw"))


def test_what_both_agree_to_share_is_shared(tmp_path: Path) -> None:
    disk = create(tmp_path / "cluster", "raw", "1M")
    first, second = (asked(tmp_path, vm, disk, "raw", share=True, share_rw=True) for vm in ("one", "two"))
    alone = asked(tmp_path, "one", disk, "raw")
    four_beats(**alone)
    refused("image_claimed", **second)
    four_beats(**first)
    four_beats(**second)
    refused("image_claimed", **alone)


def test_a_base_is_no_disk_of_another_vm(tmp_path: Path, image: Path) -> None:
    overlay = create(tmp_path / "over", "qcow2", "", "", "-b", image, "-F", "qcow2")
    told = refused("image_claimed", **asked(tmp_path, "two", overlay))["msg"]
    assert f"{image} (below this drive) is drive d of VM one too, which writes to it" in told
    (tmp_path / "far").mkdir()
    base, tops = create(tmp_path / "far" / "base", "raw", "16M"), []
    for number in (1, 2):
        tops.append(create(tmp_path / f"top{number}", "qcow2", "", "", "-b", base, "-F", "raw"))
        four_beats(**asked(tmp_path, f"clone{number}", tops[-1]))
    refusal = refused("image_claimed", **asked(tmp_path, "two", base, "raw"))
    assert refusal["evidence"]["vm"] == "clone1"
    assert f"{base} is below drive d of VM clone1, which reads it" in refusal["msg"], refusal
    assert "Name an overlay on it" in refusal["msg"]
    os.symlink(base, tmp_path / "golden")
    refusal = refused("has_overlays", **asked(tmp_path, "two", tmp_path / "golden", "raw"))
    assert refusal["evidence"] == {"overlays": [str(top) for top in tops]}


def test_an_image_that_others_are_built_on_is_only_read(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    base = create(tmp_path / "images" / "base", "raw", "16M")
    overlay = create(tmp_path / "images" / "over", "qcow2", "", "", "-b", base, "-F", "raw")
    refusal = refused("has_overlays", **asked(tmp_path, "two", base, "raw"))
    assert refusal["evidence"] == {"overlays": [str(overlay)]}
    four_beats(**asked(tmp_path, "two", base, "raw", read_only=True))


def test_a_data_file_is_that_of_its_own_image(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    data = tmp_path / "images" / "data"
    top = create(tmp_path / "images" / "top", "qcow2", "16M", f"data_file={data},data_file_raw=on")
    node = {"driver": "qcow2", "file": {"driver": "file", "filename": str(top)}}
    four_beats(**asked(tmp_path, "two", dict(node, **{"data-file": {"driver": "file", "filename": str(data)}})))
    refused("image_claimed", **asked(tmp_path, "three", data, "raw"))


def test_the_same_export_is_refused(tmp_path: Path) -> None:
    node = {"driver": "nbd", "server": {"type": "inet", "host": "store1", "port": "10809"}, "export": "a"}
    four_beats(**asked(tmp_path, "two", node))
    again = dict(node, **{"reconnect-delay": 9})
    refused("image_claimed", **asked(tmp_path, "three", {"driver": "raw", "file": again}))
    four_beats(**asked(tmp_path, "three", dict(node, export="b")))


def test_the_same_socket_by_a_link_is_refused(tmp_path: Path) -> None:
    os.symlink(tmp_path / "run", tmp_path / "var-run")
    nodes = [
        {"driver": "nbd", "server": {"type": "unix", "path": str(tmp_path / name / "s")}} for name in ("run", "var-run")
    ]
    four_beats(**asked(tmp_path, "two", nodes[0]))
    refused("image_claimed", **asked(tmp_path, "three", nodes[1]))


def test_what_a_process_has_open_is_refused(tmp_path: Path) -> None:
    other = create(tmp_path / "other", "raw", "1M")
    with exported(other, "raw", tmp_path / "socket") as server:
        refusal = refused("image_in_use", **asked(tmp_path, "two", other, "raw"))
        assert refusal["evidence"]["in_use_by"][0]["pid"] == server.pid
        refused("image_in_use", **asked(tmp_path, "two", other, "raw", read_only=True))
    four_beats(**asked(tmp_path, "two", other, "raw"))
    with exported(other, "raw", tmp_path / "socket", "--read-only"):
        four_beats(**asked(tmp_path, "three", create(tmp_path / "x", "raw", "1M"), "raw"))
        prepared("qemu_drive", vm="two", config=str(tmp_path / "vms" / "two"), state="absent")
        four_beats(**asked(tmp_path, "four", other, "raw", read_only=True))


@pytest.mark.parametrize(("name", "own"), [("guest=two,debug-threads=on", True), ("two", True), ("twice", False)])
def test_a_vm_that_runs_already_may_have_its_own_images(tmp_path: Path, name: str, own: bool) -> None:
    other = create(tmp_path / "other", "raw", "1M")
    line = (QEMU, "-M", "none", "-name", name, "-drive", f"if=none,format=raw,file={other}")
    with started(tmp_path / "monitor", *line):
        if own:
            four_beats(**asked(tmp_path, "two", other, "raw"))
        else:
            refused("image_in_use", **asked(tmp_path, "two", other, "raw"))


def test_a_definition_that_nobody_can_read_stops_others(tmp_path: Path) -> None:
    other = create(tmp_path / "other", "raw", "1M")
    path = tmp_path / "vms" / "one" / "current" / "definition.json"
    for text in ("?", "[" * 200_000):
        path.write_text(text)
        refusal = refused("definition_unreadable", **asked(tmp_path, "two", other, "raw"))
        assert refusal["evidence"] == {"path": str(path)}
