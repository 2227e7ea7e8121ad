"""Sources that QEMU reads where they are: no option is without effect, and nothing is cut off without consent."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create, info
from ansible_collections.platter.qemu.tests.lab.programs import exported

MIB = 1 << 20


@pytest.fixture(scope="module", params=["raw", "qcow2"])
def source(tmp_path_factory: pytest.TempPathFactory, request: Any) -> Iterator[dict[str, Any]]:
    """An export with a disk of 8 MiB, which QEMU reads where it is."""
    directory = tmp_path_factory.mktemp("far")
    disk = create(directory / "disk", request.param, "8M")
    with exported(disk, "raw", directory / "s", "-x", "disk", "-e", "8", "-r"):
        place = f"nbd+unix:///disk?socket={directory / 's'}"
        yield {"path": place, "format": request.param, "trusted": request.param != "raw"}


def test_the_end_is_not_cut_off_and_the_limit_counts(tmp_path: Path, source: dict[str, Any]) -> None:
    task = {"path": str(tmp_path / "a"), "format": "qcow2", "source": source}
    refused("shrink_refused", **task, size="4M")
    refused("bad_size", **task, max_virtual_size="4M")
    cut = {"size": "4M", "allow_shrink": True, "discard_data": True}
    assert four_beats(**task, **cut)["image"]["virtual_size"] == 4 * MIB


def test_a_format_that_cannot_grow_is_made_as_large(tmp_path: Path, source: dict[str, Any]) -> None:
    task = {"path": str(tmp_path / "a"), "format": "vdi", "source": source}
    assert call("disk_image", **task, size="16M")["changed"]
    assert info(tmp_path / "a", "vdi")["virtual-size"] == 16 * MIB


def test_options_without_effect_are_refused(tmp_path: Path, source: dict[str, Any]) -> None:
    for option in ({"checksum": "sha256:" + "0" * 64}, {"compression": "xz"}):
        refused("bad_option", path=str(tmp_path / "a"), format="qcow2", source={**source, **option})


def test_nobody_answers(tmp_path: Path) -> None:
    source = {"path": f"nbd+unix:///disk?socket={tmp_path / 's'}", "format": "raw"}
    refused("place_unreachable", path=str(tmp_path / "a"), format="qcow2", source=source)


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_the_limit_counts_for_what_is_packed(tmp_path: Path, format: str) -> None:
    packed = tmp_path / "disk.xz"
    packed.write_bytes(lzma.compress(create(tmp_path / "disk", format, "8M").read_bytes()))
    source = {"path": str(packed), "format": format, "trusted": True}
    result = call("disk_image", path=str(tmp_path / "a"), format="qcow2", source=source, max_virtual_size="4M")
    assert result["reason"] == {"raw": "decompression_bomb", "qcow2": "bad_size"}[format]
