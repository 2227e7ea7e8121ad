"""Shrinking: consent, and never into a partition, a file system or data."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused
from ansible_collections.platter.qemu.tests.lab.guest import MIB, PATTERNS, facts, guest_bytes, qemu_io, scribble, shows
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img


def smaller(path: object, format: str, size: str = "4M", **more: Any) -> dict[str, Any]:
    return {"path": str(path), "format": format, "size": size, "allow_shrink": True, **more}


@pytest.fixture(params=["raw", "qcow2"])
def format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def partitioned(directory: Path, format: str, script: str, size: str = "32M") -> Path:
    """An image with the partitions that sfdisk makes of the script."""
    raw = create(directory / "disk.raw", "raw", size)
    subprocess.run(["sfdisk", "-q", raw], input=script, text=True, check=True, capture_output=True)
    return as_format(raw, format)


def as_format(raw: Path, format: str) -> Path:
    if format == "raw":
        return raw
    path = raw.with_suffix("." + format)
    qemu_img("convert", "-q", "-f", "raw", "-O", format, raw, path)
    raw.unlink()
    return path


def with_ext4(directory: Path, format: str, size: str = "32M", blocks: str = "16M") -> Path:
    raw = create(directory / "disk.raw", "raw", size)
    subprocess.run(["mkfs.ext4", "-q", "-F", raw, blocks], check=True, capture_output=True)
    return as_format(raw, format)


def test_shrinking_needs_consent(tmp_path: Path, format: str) -> None:
    path = create(tmp_path / "image", format, "8M")
    result = refused("shrink_refused", path=str(path), format=format, size="4M")
    assert result["evidence"] == {"virtual_size": 8 * MIB, "size": 4 * MIB}


def test_what_is_empty_beyond_the_new_end_is_cut(tmp_path: Path, format: str) -> None:
    path = create(tmp_path / "image", format, "8M")
    scribble(path, format)
    result = four_beats(**smaller(path, format))
    assert result["actions"] == [f"Shrink {path} from 8 MiB to 4 MiB."]
    assert facts(path, format)["virtual-size"] == 4 * MIB
    shows(path, format)


@pytest.mark.parametrize("at", [4 * MIB, 8 * MIB - 512])
def test_data_beyond_the_new_end_is_not_cut(tmp_path: Path, format: str, at: int) -> None:
    path = create(tmp_path / "image", format, "8M")
    scribble(path, format, ((0x77, at, 512),))
    result = refused("shrink_cuts_data", **smaller(path, format))
    assert at < result["evidence"]["data_end"] <= 8 * MIB
    shows(path, format, ((0x77, at, 512),))


def test_data_is_cut_when_the_task_agrees_to_lose_it(tmp_path: Path, format: str) -> None:
    path = create(tmp_path / "image", format, "8M")
    scribble(path, format, (*PATTERNS, (0x77, 6 * MIB, MIB)))
    four_beats(**smaller(path, format, discard_data=True))
    shows(path, format)
    four_beats(path=str(path), format=format, size="8M")
    shows(path, format, (*PATTERNS, (0, 4 * MIB, 4 * MIB)))


def test_explicit_zeros_beyond_the_new_end_are_not_data(tmp_path: Path) -> None:
    path = create(tmp_path / "image", "qcow2", "8M")
    scribble(path, "qcow2")
    qemu_io(path, "qcow2", f"write -q -z {6 * MIB} {MIB}")
    four_beats(**smaller(path, "qcow2"))
    shows(path, "qcow2")


@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_a_partition_is_not_cut(tmp_path: Path, format: str, label: str) -> None:
    path = partitioned(tmp_path, format, f"label: {label}\n2048,20480\n22528,20480\n")
    result = refused("shrink_cuts_data", **smaller(path, format, "16M"))
    assert result["evidence"]["data_end"] >= (22528 + 20480) * 512


def test_a_logical_partition_is_not_cut(tmp_path: Path) -> None:
    path = partitioned(tmp_path, "raw", "label: dos\n2048,8192\n10240,51200,E\n12288,40960\n")
    refused("shrink_cuts_data", **smaller(path, "raw", "16M"))


def test_the_space_behind_the_last_partition_is_cut(tmp_path: Path, format: str) -> None:
    path = partitioned(tmp_path, format, "label: dos\n2048,8192\n")
    four_beats(**smaller(path, format, "16M"))
    assert facts(path, format)["virtual-size"] == 16 * MIB


def test_the_copy_of_a_gpt_is_told_from_data(tmp_path: Path, format: str) -> None:
    path = partitioned(tmp_path, format, "label: gpt\n2048,8192\n10240,8192\n")
    result = refused("shrink_cuts_data", **smaller(path, format, "16M"))
    assert result["evidence"]["what"] == "nothing but the copy of its partition table (GPT)"
    assert "sgdisk -e" in result["msg"]
    four_beats(**smaller(path, format, "16M", discard_data=True))


def test_a_gpt_that_is_cut_is_read_by_nobody(tmp_path: Path) -> None:
    """Which is why it is refused: the day that this fails it need not be any more."""
    path = partitioned(tmp_path, "raw", "label: gpt\n2048,8192\n")
    assert call("disk_image", **smaller(path, "raw", "16M", discard_data=True))["changed"]
    told = subprocess.run(["sfdisk", "--dump", path], capture_output=True, text=True, check=True).stdout
    assert "label: gpt" not in told


@pytest.mark.parametrize("at", [-512 + 60, -33 * 512, -12 * MIB])
def test_what_is_not_quite_the_copy_of_the_gpt_is_data(tmp_path: Path, at: int) -> None:
    """Another header, another table, and something else before it."""
    path = partitioned(tmp_path, "raw", "label: gpt\n2048,8192\n")
    with path.open("r+b") as stream:
        stream.seek(at, os.SEEK_END)
        stream.write(b"!")
    assert refused("shrink_cuts_data", **smaller(path, "raw", "16M"))["evidence"]["what"] == "data"


def test_a_file_system_is_not_cut(tmp_path: Path, format: str) -> None:
    path = with_ext4(tmp_path, format)
    result = refused("shrink_cuts_data", **smaller(path, format, "12M"))
    assert result["evidence"]["data_end"] == 16 * MIB


def test_the_space_behind_a_file_system_is_cut(tmp_path: Path, format: str) -> None:
    path = with_ext4(tmp_path, format)
    before = guest_bytes(path, format)[: 16 * MIB]
    four_beats(**smaller(path, format, "16M"))
    assert guest_bytes(path, format) == before


@pytest.mark.parametrize("format", ["qcow", "qed", "vdi", "vmdk", "vhdx", "parallels"])
def test_formats_that_qemu_cannot_shrink_are_copied_when_allowed(tmp_path: Path, format: str) -> None:
    # A block of VHDX has 8 MiB unless it is told, and what is allocated counts as data
    path = create(tmp_path / "image", format, "8M", "block_size=1M" if format == "vhdx" else "")
    scribble(path, format)
    refused("exists_different", **smaller(path, format))
    refused("shrink_refused", path=str(path), format=format, size="4M", allow_rewrite=True)
    four_beats(**smaller(path, format, allow_rewrite=True))
    assert facts(path, format)["virtual-size"] == 4 * MIB
    shows(path, format)


@pytest.mark.parametrize("format", ["vdi", "vmdk"])
def test_a_copy_does_not_cut_data_either(tmp_path: Path, format: str) -> None:
    path = create(tmp_path / "image", format, "8M")
    scribble(path, format, ((0x77, 6 * MIB, MIB),))
    refused("shrink_cuts_data", **smaller(path, format, allow_rewrite=True))
    four_beats(**smaller(path, format, allow_rewrite=True, discard_data=True))


def test_a_snapshot_inside_keeps_an_image_from_shrinking_without_harm(tmp_path: Path) -> None:
    path = create(tmp_path / "image", "qcow2", "8M")
    scribble(path, "qcow2")
    qemu_img("snapshot", "-c", "before", path)
    before = guest_bytes(path, "qcow2")
    result = call("disk_image", **smaller(path, "qcow2"))
    expected = before[: 4 * MIB] if result["changed"] and not result.get("failed") else before
    assert guest_bytes(path, "qcow2") == expected
    assert len(facts(path, "qcow2")["snapshots"]) == 1
