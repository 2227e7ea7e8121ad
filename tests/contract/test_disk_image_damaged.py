"""Files that are shorter than their headers say: QEMU reads what is missing as zeros."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import refused
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create

MIB = 1 << 20


@pytest.fixture
def content(tmp_path: Path) -> Path:
    """A raw disk full of data."""
    path = tmp_path / "content.raw"
    path.write_bytes(os.urandom(8 * MIB))
    return path


def cut(path: Path) -> None:
    """Lose the last third of the file."""
    os.truncate(path, path.stat().st_size * 2 // 3)


@pytest.mark.parametrize("static", [False, True])
def test_a_truncated_vdi_is_neither_imported_nor_rewritten(tmp_path: Path, content: Path, static: bool) -> None:
    damaged = tmp_path / "a.vdi"
    options = ["-o", "static=on"] if static else []
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vdi", *options, content, damaged], check=True)
    cut(damaged)
    source = {"path": str(damaged), "format": "vdi"}
    imported = call("disk_image", path=str(tmp_path / "new"), format="qcow2", source=source)
    rewritten = call("disk_image", path=str(damaged), format="qcow2", current_format="vdi", allow_rewrite=True)
    assert (imported["reason"], rewritten["reason"]) == ("source_damaged", "image_damaged")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("subformat", ["monolithicFlat", "twoGbMaxExtentFlat"])
def test_a_truncated_flat_extent_is_not_imported(tmp_path: Path, content: Path, subformat: str) -> None:
    image = tmp_path / "a.vmdk"
    option = "subformat=" + subformat
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", option, content, image], check=True)
    (extent,) = tmp_path.glob("a-f*.vmdk")
    cut(extent)
    source = {"path": str(image), "format": "vmdk", "trusted": True}
    assert call("disk_image", path=str(tmp_path / "new"), format="qcow2", source=source)["reason"] == "source_damaged"


@pytest.mark.parametrize("format", ["qcow2", "vpc", "vhdx", "parallels"])
def test_other_truncated_sources_are_refused_too(tmp_path: Path, content: Path, format: str) -> None:
    damaged = tmp_path / "a"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", format, content, damaged], check=True)
    cut(damaged)
    source = {"path": str(damaged), "format": format}
    result = call("disk_image", path=str(tmp_path / "new"), format="qcow2", source=source)
    assert result["reason"] in ("source_damaged", "format_mismatch")
    assert result["image"] == result["diff"]["after"] == {"path": str(tmp_path / "new"), "state": "absent"}
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kept", [1000, 66_000, 150_000, 196_640])
def test_a_qcow2_image_without_its_tables_is_damaged(tmp_path: Path, content: Path, kept: int) -> None:
    """QEMU opens it, reads zeros, and marks it corrupt as soon as it is to grow. 196640: only its L2 table is lost."""
    damaged = tmp_path / "a"
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", content, damaged], check=True)
    subprocess.run(["qemu-img", "resize", "-q", damaged, "2G"], check=True)
    whole = told(damaged)
    os.truncate(damaged, kept)
    for task in ({}, {"size": "3G"}, {"repair": "all"}, {"mode": "0600"}):
        refused("image_damaged", path=str(damaged), format="qcow2", **task)
    overlay = {"path": str(tmp_path / "top"), "format": "qcow2"}
    refused("image_damaged", **overlay, backing={"path": str(damaged), "format": "qcow2"})
    refused("image_damaged", image=str(damaged), format="qcow2", kind="internal", name="one")
    refused("source_damaged", **overlay, source={"path": str(damaged), "format": "qcow2"})
    assert ("error" in whole, told(damaged)["reason"]) == (False, "image_damaged")
    assert call("disk_image", path=str(damaged), state="absent")["changed"]


@pytest.mark.parametrize(
    ("format", "kept"), [("qcow", 100), ("qed", 70_000), ("vdi", 600), ("vhdx", 4 * MIB - 512), ("parallels", 80)]
)
def test_other_formats_without_their_tables_are_damaged(tmp_path: Path, format: str, kept: int) -> None:
    damaged = create(tmp_path / "a", format, "2G")
    assert "error" not in told(damaged)
    os.truncate(damaged, kept)
    assert told(damaged)["reason"] == "image_damaged"
    refused("image_damaged", path=str(damaged), format=format)


def test_a_corrupt_mark_that_qemu_sets_is_told(tmp_path: Path) -> None:
    """What nobody counts is given away once more: QEMU sees it when the L1 table would lie on the first one."""
    image = create(tmp_path / "a", "qcow2", "1G")
    with image.open("r+b") as stream:
        stream.seek(2 * 65536)
        stream.write(bytes(65536))
    result = call("disk_image", path=str(image), format="qcow2", size="8T")
    assert result["failed"] and result["msg"].endswith("and is now marked corrupt."), result["msg"]
    assert (result["image"]["virtual_size"], result["diff"]["after"]["virtual_size"]) == (1 << 30, 1 << 30)
    assert told(image)["corrupt"] is True


def told(path: Path) -> dict[str, Any]:
    (facts,) = call("disk_image_info", paths=[str(path)])["images"]
    return dict(facts)


def test_a_data_file_never_takes_over_what_is_there(tmp_path: Path) -> None:
    """QEMU empties it without a word (7.2)."""
    precious = tmp_path / "data"
    precious.write_text("precious")
    task = {"path": str(tmp_path / "a"), "format": "qcow2", "size": "1M", "options": {"data_file": str(precious)}}
    assert [call("disk_image", check=check, **task)["reason"] for check in (True, False)] == ["member_exists"] * 2
    assert precious.read_text() == "precious"
    assert not (tmp_path / "a").exists()


def test_a_data_file_goes_with_its_image(tmp_path: Path) -> None:
    task = {"path": str(tmp_path / "a"), "format": "qcow2"}
    prepared("disk_image", **task, size="1M", options={"data_file": str(tmp_path / "data")})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "data"]
    prepared("disk_image", **task, state="absent")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fixed", ["a", "data"])
def test_an_image_and_its_data_file_stay_together(tmp_path: Path, fixed: str) -> None:
    """Whichever of them cannot be removed."""
    task = {"path": str(tmp_path / "a"), "format": "qcow2"}
    prepared("disk_image", **task, size="1M", options={"data_file": str(tmp_path / "data")})
    subprocess.run(["chattr", "+i", tmp_path / fixed], check=True)
    try:
        assert call("disk_image", **task, state="absent")["failed"]
    finally:
        subprocess.run(["chattr", "-i", tmp_path / fixed], check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "data"]


@pytest.mark.parametrize("name", ["data", "other"])
def test_a_rewrite_never_writes_to_a_data_file(tmp_path: Path, name: str) -> None:
    """Neither to the image's own, which it reads, nor to another that is there."""
    given = {"path": str(tmp_path / "a"), "format": "qcow2"}
    assert call("disk_image", **given, size="1M", options={"data_file": str(tmp_path / "data")})["changed"]
    (tmp_path / "other").write_bytes(b"precious" * 64)
    options = {"data_file": str(tmp_path / name), "cluster_size": "32K"}
    refused("exists_different", **given, options=options, allow_rewrite=True)


def test_an_image_without_a_data_file_is_not_taken_for_one_with(tmp_path: Path) -> None:
    path = create(tmp_path / "a", "qcow2", "1M")
    refused("exists_different", path=str(path), format="qcow2", options={"data_file": str(tmp_path / "data")})


def test_a_relative_data_file_is_refused(tmp_path: Path) -> None:
    """QEMU 7.2 looks for it in its own working directory."""
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file=data", "a", "1M"]
    subprocess.run(command, check=True, cwd=tmp_path)
    assert call("disk_image", path=str(tmp_path / "a"), format="qcow2", size="2M")["reason"] == "relative_data_file"


def test_an_immutable_image_is_made_and_left_alone(tmp_path: Path) -> None:
    task = {"path": str(tmp_path / "a"), "format": "qcow2", "size": "1M", "attributes": "+i"}
    try:
        assert [call("disk_image", **task)["changed"] for _again in range(2)] == [True, False]
        assert call("disk_image", path=task["path"], format="qcow2", size="2M")["failed"]
    finally:
        subprocess.run(["chattr", "-i", task["path"]], check=True)


@pytest.mark.parametrize("name", ["victim", "../victim", "a-s001.raw", "b-s001.vmdk", ".."])
def test_what_a_descriptor_names_is_not_removed_with_it(tmp_path: Path, name: str) -> None:
    """Only what is called like a member is one."""
    (tmp_path / "pool").mkdir()
    for victim in (tmp_path / "victim", tmp_path / "pool" / "victim", tmp_path / "pool" / "a-s001.raw"):
        victim.write_bytes(bytes(MIB))
    (tmp_path / "pool" / "b-s001.vmdk").write_bytes(bytes(MIB))
    before = sorted(path for path in tmp_path.rglob("*"))
    image = tmp_path / "pool" / "a.vmdk"
    image.write_text(
        '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="twoGbMaxExtentFlat"\n'
        'RW 2048 FLAT "%s" 0\nddb.adapterType = "ide"\n' % name
    )
    prepared("disk_image", path=str(image), state="absent", mode="0777")
    assert sorted(path for path in tmp_path.rglob("*")) == before
    assert not image.exists()


def test_the_old_format_of_a_rewrite_is_not_guessed(tmp_path: Path) -> None:
    """What a guest wrote into its raw disk names any file of the host."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"host secret".ljust(4096, b"!"))
    disk = tmp_path / "guest.img"
    text = (
        '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\nRW 8 FLAT "%s" 0\n'
    )
    disk.write_bytes((text % secret).encode().ljust(MIB, b"\0"))
    before = disk.read_bytes()
    task = {"path": str(disk), "format": "qcow2", "allow_rewrite": True}
    assert call("disk_image", **task)["reason"] == "format_mismatch"
    assert call("disk_image", **task, current_format="vmdk")["reason"] == "image_references_file"
    assert disk.read_bytes() == before


def test_a_planted_build_directory_is_not_believed(tmp_path: Path) -> None:
    """In a directory that everyone can write to, anybody can make one."""
    tmp_path.chmod(0o1777)
    victim = tmp_path / "image-s001.qcow2"
    victim.write_text("victim")
    tag = hashlib.sha256(b"image.qcow2").hexdigest()[:12]
    planted = tmp_path / (".platter-tmp.%s.deadbeef" % tag)
    planted.mkdir()
    (planted / "image.qcow2").write_text('# Disk DescriptorFile\nversion=1\nRW 8 FLAT "image-s001.qcow2" 0\n')
    os.chown(planted, 65534, 65534)
    (tmp_path / (".platter-tmp.%s.cafecafe" % tag)).touch()
    result = call("disk_image", path=str(tmp_path / "image.qcow2"), format="qcow2", size="1M")
    assert result["changed"] and victim.read_text() == "victim" and planted.exists()
