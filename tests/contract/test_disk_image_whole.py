"""What QEMU reads as zeros because a file is cut off is never taken for the content of an image."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import converge, refused
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.patterns import write_pattern

MIB = 1 << 20


def full(path: Path, format: str, **more: Any) -> Path:
    """A full disk of 2 MiB."""
    options = [word for name, value in more.items() for word in ("-o", "%s=%s" % (name, value))]
    subprocess.run(["qemu-img", "create", "-q", "-f", format, *options, path, "2M"], check=True)
    subprocess.run(["qemu-io", "-f", format, "-c", "write -q -P 17 0 2M", path], check=True)
    return path


def cut(path: Path) -> None:
    """Lose the last MiB of the data."""
    os.truncate(path, path.stat().st_size - MIB)


@pytest.mark.parametrize(
    ("format", "reason"),
    [("qcow2", "image_corrupt"), ("vmdk", "image_damaged"), ("qcow", "image_damaged")],
)
def test_a_rewrite_never_copies_what_is_cut_off(tmp_path: Path, format: str, reason: str) -> None:
    image = full(tmp_path / "a", format)
    cut(image)
    asked = {"qcow2": "vmdk"}.get(format, "qcow2")
    refused(reason, path=str(image), format=asked, current_format=format, allow_rewrite=True)


def test_neither_does_an_import_of_qcow(tmp_path: Path) -> None:
    image = full(tmp_path / "a", "qcow")
    cut(image)
    source = {"path": str(image), "format": "qcow", "trusted": True}
    result = call("disk_image", path=str(tmp_path / "b"), format="raw", source=source)
    assert result["reason"] == "source_damaged", result


@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("subformat", ["monolithicFlat", "twoGbMaxExtentSparse"])
def test_a_split_image_without_all_of_its_extents(tmp_path: Path, subformat: str, gone: bool) -> None:
    image = full(tmp_path / "a.vmdk", "vmdk", subformat=subformat)
    (extent,) = tmp_path.glob("a-*.vmdk")
    extent.unlink() if gone else cut(extent)
    reason = "member_missing" if gone else "image_damaged"
    refused(reason, path=str(image), format="qcow2", current_format="vmdk", allow_rewrite=True)
    if gone:  # also where nothing is to be done
        refused(reason, path=str(image), format="vmdk", mode="0640")
        assert converge(path=str(image), state="absent")["changed"]


def test_a_data_file_that_is_cut_off_or_gone(tmp_path: Path) -> None:
    image, data = tmp_path / "a.qcow2", tmp_path / "a.data"
    assert call("disk_image", path=str(image), format="qcow2", size="4M", options={"data_file": str(data)})["changed"]
    write_pattern(image, "qcow2", 1)
    asked = {"path": str(image), "format": "qcow2", "allow_rewrite": True, "options": {"cluster_size": "4k"}}
    os.truncate(data, MIB)
    refused("image_damaged", **asked)
    source = {"path": str(image), "format": "qcow2", "trusted": True}
    assert call("disk_image", path=str(tmp_path / "b"), format="raw", source=source)["reason"] == "source_damaged"
    data.unlink()
    refused("member_missing", **asked)
    refused("member_missing", path=str(image), format="qcow2")
    refused("member_missing", path=str(image), format="qcow2", size="8M")
    assert converge(path=str(image), state="absent")["changed"]


def test_a_data_file_that_is_short_and_whole(tmp_path: Path) -> None:
    """QEMU before 5.0 made it as long as what had been written to it."""
    image, data = tmp_path / "a.qcow2", tmp_path / "a.data"
    full(image, "qcow2", data_file=data)
    assert call("disk_image", path=str(image), format="qcow2", size="4M")["changed"]
    os.truncate(data, 2 * MIB)
    assert call("disk_image", path=str(image), format="qcow2")["changed"] is False


@pytest.mark.parametrize("options", [{"flatten": True}, {"allow_rewrite": True, "options": {"cluster_size": "4k"}}])
def test_nor_is_it_copied_from_a_base(tmp_path: Path, options: dict[str, Any]) -> None:
    base, top = full(tmp_path / "base", "qcow2"), tmp_path / "top"
    create(top, "qcow2", "", "", "-b", base, "-F", "qcow2")
    cut(base)
    assert str(base) in refused("image_damaged", path=str(top), format="qcow2", **options)["msg"]
    source = {"path": str(top), "format": "qcow2", "trusted": True}
    result = call("disk_image", path=str(tmp_path / "b"), format="raw", source=source)
    assert result["reason"] == "source_damaged"


def test_a_source_that_is_marked_corrupt_is_not_imported(tmp_path: Path) -> None:
    source = create(tmp_path / "source", "qcow2", "1M")
    with source.open("r+b") as stream:
        stream.seek(79)
        stream.write(b"\2")
    refused("source_damaged", path=str(tmp_path / "a"), format="raw", source={"path": str(source), "format": "qcow2"})
