"""Sizes: every way to write one, what formats round it to, and growing in every format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._formats.features import FEATURES
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.guest import GIB, KIB, MIB, PATTERNS, facts, scribble, shows
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create, info, qemu_img

PLAIN = [name for name in FEATURES if name != "luks"]


def virtual_size(path: object, format: str) -> int:
    return int(facts(path, format)["virtual-size"])


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_one_size_is_equal_however_it_is_written(tmp_path: Path, format: str) -> None:
    given = {"path": str(tmp_path / "image"), "format": format}
    four_beats(**given, size="1G")
    for size in ("1g", "1GiB", "1GB", "1 GiB", "1024M", "1024MiB", "1048576K", "1073741824", "1073741824B", "1.0G"):
        settled(**given, size=size)
    assert virtual_size(given["path"], format) == GIB


@pytest.mark.parametrize(("size", "expected"), [("0.5M", 512 * KIB), ("1.5K", 1536), ("1000B", 1024), ("2T", 2 << 40)])
def test_fractions_and_odd_bytes_become_whole_sectors(tmp_path: Path, size: str, expected: int) -> None:
    path = tmp_path / "image.qcow2"
    four_beats(path=str(path), format="qcow2", size=size)
    assert virtual_size(path, "qcow2") == expected


@pytest.mark.parametrize("format", PLAIN)
def test_a_rounded_size_is_equal_to_the_asked_one(tmp_path: Path, format: str) -> None:
    """Which grid a format rounds to is told by QEMU, on an image that it makes by itself."""
    alone = create(tmp_path / "alone", format, 10_000_001)
    path = tmp_path / f"image.{format}"
    result = four_beats(path=str(path), format=format, size="10000001")
    assert result["image"]["virtual_size"] == virtual_size(path, format) == virtual_size(alone, format)
    settled(path=str(path), format=format, size=str(virtual_size(path, format)))
    settled(path=str(alone), format=format, size="10000001")


@pytest.mark.parametrize(("force", "expected"), [(True, 10 * MIB), (False, 10_514_432)])
@pytest.mark.parametrize("subformat", ["dynamic", "fixed"])
def test_a_vhd_has_the_exact_size_or_the_next_geometry(
    tmp_path: Path, force: bool, expected: int, subformat: str
) -> None:
    path = tmp_path / "disk.vhd"
    options = {"subformat": subformat, "force_size": force}
    four_beats(path=str(path), format="vpc", size="10M", options=options)
    assert virtual_size(path, "vpc") == expected
    settled(path=str(path), format="vpc", size="10M")


@pytest.mark.parametrize("size", ["1M", "10M", "123M", "1G", "130G", "200G"])
def test_every_geometry_is_foreseen(tmp_path: Path, size: str) -> None:
    path = tmp_path / "disk.vhd"
    four_beats(path=str(path), format="vpc", size=size)


def test_a_fixed_vhd_is_known_although_qemu_probes_it_as_raw(tmp_path: Path) -> None:
    path = create(tmp_path / "disk.vhd", "vpc", "10M", "subformat=fixed,force_size=on")
    assert '"format": "raw"' in qemu_img("info", "--output=json", path)
    settled(path=str(path), format="vpc", size="10M", options={"subformat": "fixed"})
    refused("format_mismatch", path=str(path), format="raw")
    scribble(path, "vpc")
    shows(path, "vpc")


@pytest.mark.parametrize("format", PLAIN)
def test_every_format_grows(tmp_path: Path, format: str) -> None:
    """In place where QEMU can; else by a copy, which has to be allowed."""
    path = create(tmp_path / f"image.{format}", format, "4M")
    scribble(path, format)
    given: dict[str, Any] = {"path": str(path), "format": format, "size": "9M"}
    inode = path.stat().st_ino
    if not FEATURES[format].grow:
        refused("exists_different", **given)
        given["allow_rewrite"] = True
    result = four_beats(**given)
    assert len(result["actions"]) == 1
    assert result["actions"][0].startswith("Grow " if FEATURES[format].grow else "Rewrite ")
    assert (path.stat().st_ino == inode) is FEATURES[format].grow
    assert 9 * MIB <= virtual_size(path, format) < 10 * MIB
    end = 4 * MIB
    shows(path, format, (*PATTERNS, (0, end + 512 * KIB, 9 * MIB - end - 512 * KIB)))


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_growing_reads_as_zeros(tmp_path: Path, format: str) -> None:
    path = create(tmp_path / "image", format, "4M")
    scribble(path, format)
    four_beats(path=str(path), format=format, size="8M")
    shows(path, format, (*PATTERNS, (0, 4 * MIB, 4 * MIB)))


def test_an_overlay_does_not_show_its_base_where_it_was_grown(tmp_path: Path) -> None:
    base = create(tmp_path / "base.qcow2", "qcow2", "8M")
    scribble(base, "qcow2", ((0x55, 6 * MIB, MIB),))
    overlay = create(tmp_path / "overlay.qcow2", "qcow2", "4M", "", "-b", base, "-F", "qcow2")
    four_beats(path=str(overlay), format="qcow2", size="8M")
    shows(overlay, "qcow2", ((0, 4 * MIB, 4 * MIB),))


@pytest.mark.parametrize("size", ["", "0", "-1", "10X", "1e3", "1,5G", "12 parsecs", "9E", "0.3"])
def test_what_is_no_size_is_refused(tmp_path: Path, size: str) -> None:
    refused("bad_size", path=str(tmp_path / "image"), format="raw", size=size)


def test_a_new_image_needs_a_size(tmp_path: Path) -> None:
    refused("size_missing", path=str(tmp_path / "image"), format="qcow2")


def test_an_image_that_is_there_needs_none(tmp_path: Path) -> None:
    path = create(tmp_path / "image", "qcow2", "4M")
    settled(path=str(path), format="qcow2")


@pytest.mark.parametrize("there", [True, False])
def test_a_size_beyond_the_limit_is_refused(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "image"
    if there:
        create(path, "qcow2", "4M")
    refused("bad_size", path=str(path), format="qcow2", size="8M", max_virtual_size="6M")
    prepared("disk_image", path=str(path), format="qcow2", size="6M", max_virtual_size="6M")
    assert info(path, "qcow2")["virtual-size"] == 6 * MIB


@pytest.mark.parametrize(("format", "size"), [("vdi", "2P"), ("vhdx", "65T"), ("vpc", "3T"), ("qed", "128T")])
def test_a_size_that_the_format_cannot_have_is_refused(tmp_path: Path, format: str, size: str) -> None:
    refused("bad_size", path=str(tmp_path / "image"), format=format, size=size)


def test_a_size_that_has_lost_its_unit_is_refused(tmp_path: Path) -> None:
    for size in (20, "20", "100000"):
        result = refused("bad_size", path=str(tmp_path / "image"), format="qcow2", size=size)
        assert f"size is {size}, and sizes without a unit are bytes" in result["msg"]
    for number, size in enumerate(("512", "20480", "1000B", "2K", "1048577")):
        assert call("disk_image", path=str(tmp_path / str(number)), format="qcow2", size=size)["changed"]
