"""A split VMDK is one image: made, owned, imported, converted and removed with all its files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled, snapshot
from ansible_collections.platter.qemu.tests.lab.guest import GIB, MIB, facts, scribble, shows
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create

#: at the beginning, across the border of two extents, and at the end of 5 GiB
ACROSS = ((0x11, 0, MIB), (0x22, 2 * GIB - MIB, 2 * MIB), (0x33, 5 * GIB - MIB, MIB))
SPLIT = ["monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"]


def split(directory: Path, subformat: str = "twoGbMaxExtentSparse", **more: Any) -> dict[str, Any]:
    options = {"subformat": subformat}
    return {"path": str(directory / "disk.vmdk"), "format": "vmdk", "size": "5G", "options": options, **more}


def extents(path: object) -> list[str]:
    """The files of the image, as QEMU tells them."""
    found = facts(path, "vmdk")["format-specific"]["data"]["extents"]
    return sorted(os.path.basename(extent["filename"]) for extent in found)


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


@pytest.mark.parametrize("subformat", SPLIT)
def test_all_files_are_made_and_hold_the_data(tmp_path: Path, subformat: str) -> None:
    given = split(tmp_path, subformat)
    four_beats(**given)
    assert len(extents(given["path"])) == (1 if subformat == "monolithicFlat" else 3)
    assert names(tmp_path) == sorted([*extents(given["path"]), "disk.vmdk"])
    scribble(given["path"], "vmdk", ACROSS)
    shows(given["path"], "vmdk", ACROSS)
    settled(**given)


@pytest.mark.parametrize("subformat", SPLIT)
def test_absent_removes_all_files(tmp_path: Path, subformat: str) -> None:
    prepared("disk_image", **split(tmp_path, subformat))
    (tmp_path / "disk-notes.txt").write_text("mine")
    result = four_beats(path=str(tmp_path / "disk.vmdk"), state="absent")
    assert result["actions"] == [
        f"Remove {tmp_path / 'disk.vmdk'} and its {'1 member file' if 'mono' in subformat else '3 member files'}."
    ]
    assert names(tmp_path) == ["disk-notes.txt"]


def parts(directory: Path, subformat: str) -> list[Path]:
    """Its files without the descriptor."""
    prepared("disk_image", **split(directory, subformat))
    return sorted(set(directory.iterdir()) - {directory / "disk.vmdk"})


@pytest.mark.parametrize("subformat", SPLIT)
def test_an_extent_is_no_image_and_its_descriptor_is_named(tmp_path: Path, subformat: str) -> None:
    for part in parts(tmp_path, subformat):
        source = {"path": str(part), "format": "vmdk", "trusted": True}
        result = refused("vmdk_extent", path=str(tmp_path / "new"), format="qcow2", source=source)
        assert result["evidence"] == {"descriptor": str(tmp_path / "disk.vmdk")}
        assert f"it is an extent of the split VMDK {tmp_path}/disk.vmdk. Nothing was changed. Name the" in result["msg"]
        refused("vmdk_extent", path=str(part), format="vmdk", size="5G")
        refused("vmdk_extent", path=str(part), state="absent")


def test_a_flat_extent_that_is_said_to_be_raw_is_still_an_extent(tmp_path: Path) -> None:
    for part in parts(tmp_path, "twoGbMaxExtentFlat"):
        source = {"path": str(part), "format": "raw"}
        result = refused("vmdk_extent", path=str(tmp_path / "new"), format="qcow2", source=source)
        assert result["evidence"] == {"descriptor": str(tmp_path / "disk.vmdk")}
        refused("vmdk_extent", path=str(part), format="raw", size="3G")
        refused("vmdk_extent", path=str(part), format="raw", state="absent")


def test_the_one_extent_of_a_flat_image_can_be_imported_as_raw(tmp_path: Path) -> None:
    """It is the disk, byte for byte. As a file it is still a part of its image."""
    given = split(tmp_path, "monolithicFlat", size="8M")
    prepared("disk_image", **given)
    scribble(given["path"], "vmdk")
    part = {"path": str(tmp_path / "disk-flat.vmdk"), "format": "raw"}
    four_beats(path=str(tmp_path / "new"), format="qcow2", source=part)
    shows(tmp_path / "new", "qcow2")
    refused("vmdk_extent", **part, size="9M")


def test_a_raw_image_that_is_only_called_like_an_extent_is_one(tmp_path: Path) -> None:
    four_beats(path=str(tmp_path / "disk-flat.vmdk"), format="raw", size="8M")
    source = {"path": str(tmp_path / "disk-flat.vmdk"), "format": "raw"}
    four_beats(path=str(tmp_path / "new"), format="qcow2", source=source)


@pytest.mark.parametrize("subformat", SPLIT)
def test_an_extent_without_its_descriptor_is_told(tmp_path: Path, subformat: str) -> None:
    part = parts(tmp_path, subformat)[0]
    (tmp_path / "disk.vmdk").unlink()
    source = {"path": str(part), "format": "vmdk"}
    result = refused("vmdk_extent", path=str(tmp_path / "new"), format="qcow2", source=source)
    assert result["evidence"] == {"descriptor": None} and "Bring the descriptor" in result["msg"]


def test_the_facts_of_an_extent_name_its_image(tmp_path: Path) -> None:
    part = parts(tmp_path, "twoGbMaxExtentSparse")[0]
    (told,) = call("disk_image_info", paths=[str(part)])["images"]
    assert (told["reason"], told["error"]) == (
        "vmdk_extent",
        f"it is an extent of the split VMDK {tmp_path}/disk.vmdk",
    )


def test_a_flat_extent_is_still_a_raw_source(tmp_path: Path) -> None:
    (part,) = parts(tmp_path, "monolithicFlat")
    scribble(tmp_path / "disk.vmdk", "vmdk", ACROSS)
    four_beats(path=str(tmp_path / "new"), format="qcow2", source={"path": str(part), "format": "raw"})
    shows(tmp_path / "new", "qcow2", ACROSS)


def test_mode_and_owner_are_those_of_all_files(tmp_path: Path) -> None:
    given = split(tmp_path, mode="0640", owner="daemon", group="daemon")
    four_beats(**given)
    for name in names(tmp_path):
        seen = (tmp_path / name).stat()
        assert (seen.st_mode & 0o777, seen.st_uid, seen.st_gid) == (0o640, 1, 1)
    (tmp_path / extents(given["path"])[1]).chmod(0o600)
    result = four_beats(**given)
    assert result["actions"] == [f"Set mode from 0600 to 0640 of {given['path']}."]


@pytest.mark.parametrize("to", ["qcow2", "raw"])
def test_a_split_image_is_imported_whole(tmp_path: Path, to: str) -> None:
    (tmp_path / "vendor").mkdir()
    given = split(tmp_path / "vendor")
    prepared("disk_image", **given)
    scribble(given["path"], "vmdk", ACROSS)
    path = tmp_path / f"copy.{to}"
    source = {"path": given["path"], "format": "vmdk", "trusted": True}
    four_beats(path=str(path), format=to, source=source)
    shows(path, to, ACROSS)


def test_an_image_is_imported_as_a_split_one(tmp_path: Path) -> None:
    source = create(tmp_path / "source.qcow2", "qcow2", "5G")
    scribble(source, "qcow2", ACROSS)
    (tmp_path / "out").mkdir()
    given = split(tmp_path / "out", source={"path": str(source), "format": "qcow2"})
    four_beats(**given)
    assert len(extents(given["path"])) == 3
    shows(given["path"], "vmdk", ACROSS)


def test_its_files_are_references_for_those_who_do_not_trust_it(tmp_path: Path) -> None:
    given = split(tmp_path)
    prepared("disk_image", **given)
    source = {"path": given["path"], "format": "vmdk"}
    refused("image_references_file", path=str(tmp_path / "copy.qcow2"), format="qcow2", source=source)


def test_a_missing_file_is_noticed_before_the_import(tmp_path: Path) -> None:
    given = split(tmp_path)
    prepared("disk_image", **given)
    (tmp_path / extents(given["path"])[2]).unlink()
    source = {"path": given["path"], "format": "vmdk", "trusted": True}
    refused("source_damaged", path=str(tmp_path / "copy.qcow2"), format="qcow2", source=source)


@pytest.mark.parametrize("subformat", ["monolithicSparse", "monolithicFlat"])
def test_a_split_image_becomes_one_of_another_kind(tmp_path: Path, subformat: str) -> None:
    given = split(tmp_path)
    prepared("disk_image", **given)
    scribble(given["path"], "vmdk", ACROSS)
    four_beats(**{**given, "options": {"subformat": subformat}}, allow_rewrite=True)
    shows(given["path"], "vmdk", ACROSS)
    assert names(tmp_path) == sorted({*extents(given["path"]), "disk.vmdk"})


def test_a_split_image_becomes_one_file_of_another_format(tmp_path: Path) -> None:
    given = split(tmp_path)
    prepared("disk_image", **given)
    scribble(given["path"], "vmdk", ACROSS)
    four_beats(path=given["path"], format="qcow2", allow_rewrite=True)
    shows(given["path"], "qcow2", ACROSS)
    assert names(tmp_path) == ["disk.vmdk"]


@pytest.mark.parametrize("old", ["monolithicSparse", "twoGbMaxExtentSparse"])
def test_an_image_becomes_a_split_one(tmp_path: Path, old: str) -> None:
    given = split(tmp_path, old)
    prepared("disk_image", **given)
    scribble(given["path"], "vmdk", ACROSS)
    four_beats(**{**given, "options": {"subformat": "twoGbMaxExtentFlat"}}, allow_rewrite=True)
    shows(given["path"], "vmdk", ACROSS)
    assert names(tmp_path) == sorted([*extents(given["path"]), "disk.vmdk"])


def test_a_split_image_grows_by_a_copy(tmp_path: Path) -> None:
    given = split(tmp_path)
    prepared("disk_image", **given)
    scribble(given["path"], "vmdk", ACROSS)
    four_beats(**{**given, "size": "7G"}, allow_rewrite=True)
    shows(given["path"], "vmdk", ACROSS)
    assert len(extents(given["path"])) == 4
    assert names(tmp_path) == sorted([*extents(given["path"]), "disk.vmdk"])


def test_a_file_with_the_name_of_a_member_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "disk-s002.vmdk").write_text("mine")
    before = snapshot([str(tmp_path)])
    result = call("disk_image", **split(tmp_path))
    assert (result["failed"], result["reason"], result["changed"]) == (True, "member_exists", False)
    assert snapshot([str(tmp_path)]) == before


def test_a_name_with_spaces_and_quotes_is_right_in_the_descriptor(tmp_path: Path) -> None:
    given = {**split(tmp_path), "path": str(tmp_path / "my 'disk', neu.vmdk")}
    four_beats(**given)
    scribble(given["path"], "vmdk", ACROSS)
    four_beats(path=given["path"], state="absent")
    assert names(tmp_path) == []


def test_no_half_backup_is_made_of_a_split_image(tmp_path: Path) -> None:
    given = split(tmp_path)
    prepared("disk_image", **given)
    refused("backup_unsupported", path=given["path"], state="absent", backup=True)
    refused("backup_unsupported", path=given["path"], format="qcow2", allow_rewrite=True, backup=True)
    settled(**given, backup=True)
