"""Options that change in place: the data stays where it is in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused
from ansible_collections.platter.qemu.tests.lab.guest import check, extents, facts, scribble, shows
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img


def image(path: Path, options: str = "") -> dict[str, Any]:
    create(path, "qcow2", "4M", options)
    scribble(path, "qcow2")
    return {"path": str(path), "format": "qcow2"}


def told(path: object) -> dict[str, Any]:
    return dict(facts(path, "qcow2")["format-specific"]["data"])


@pytest.mark.parametrize(
    ("made", "asked", "shown"),
    [
        ("compat=0.10", {"compat": "1.1"}, {"compat": "1.1"}),
        ("compat=1.1", {"compat": "0.10"}, {"compat": "0.10"}),
        ("compat=1.1", {"lazy_refcounts": True}, {"lazy-refcounts": True}),
        ("lazy_refcounts=on", {"lazy_refcounts": False}, {"lazy-refcounts": False}),
        ("compat=0.10", {"compat": "1.1", "lazy_refcounts": True}, {"compat": "1.1", "lazy-refcounts": True}),
        ("refcount_bits=16", {"refcount_bits": 64}, {"refcount-bits": 64}),
        ("refcount_bits=16", {"refcount_bits": 1}, {"refcount-bits": 1}),
        ("refcount_bits=8", {"refcount_bits": 16, "compat": "0.10"}, {"compat": "0.10", "refcount-bits": 16}),
        ("lazy_refcounts=on", {"compat": "0.10"}, {"compat": "0.10"}),
    ],
    ids=str,
)
def test_the_option_changes_and_the_data_stays_in_place(
    tmp_path: Path, made: str, asked: dict[str, Any], shown: dict[str, Any]
) -> None:
    given = image(tmp_path / "image", made)
    before, inode = extents(given["path"], "qcow2"), Path(given["path"]).stat().st_ino
    result = four_beats(**given, options=asked)
    assert [action.split()[0] for action in result["actions"]] == ["Amend"]
    assert {key: told(given["path"])[key] for key in shown} == shown
    assert extents(given["path"], "qcow2") == before
    assert Path(given["path"]).stat().st_ino == inode
    assert {"corruptions", "leaks"}.isdisjoint(check(given["path"], "qcow2"))
    shows(given["path"], "qcow2")


def test_one_task_amends_and_grows(tmp_path: Path) -> None:
    given = image(tmp_path / "image", "compat=0.10")
    result = four_beats(**given, options={"compat": "1.1"}, size="8M")
    assert [action.split()[0] for action in result["actions"]] == ["Amend", "Grow"]
    shows(given["path"], "qcow2")


@pytest.mark.parametrize(
    ("made", "asked"),
    [
        ("compression_type=zstd", {"compat": "0.10", "compression_type": "zstd"}),
        ("refcount_bits=8", {"compat": "0.10", "refcount_bits": 8}),
        ("extended_l2=on", {"compat": "0.10", "extended_l2": True}),
    ],
    ids=str,
)
def test_what_version_2_cannot_have_contradicts_it(tmp_path: Path, made: str, asked: dict[str, Any]) -> None:
    refused("bad_option", **image(tmp_path / "image", made), options=asked)


@pytest.mark.parametrize("made", ["compression_type=zstd", "refcount_bits=8", "extended_l2=on"])
def test_an_image_that_needs_version_3_is_not_made_version_2_in_place(tmp_path: Path, made: str) -> None:
    """QEMU 7.2 amends a zstd image to compat=0.10, and then nothing opens it."""
    given = image(tmp_path / "image", made)
    refused("exists_different", **given, options={"compat": "0.10"})
    shows(given["path"], "qcow2")


def test_a_snapshot_inside_keeps_version_3(tmp_path: Path) -> None:
    given = image(tmp_path / "image")
    qemu_img("snapshot", "-c", "before", given["path"])
    refused("exists_different", **given, options={"compat": "0.10"})


@pytest.mark.parametrize(
    "asked", [{"cluster_size": "128K"}, {"compression_type": "zstd"}, {"extended_l2": True}], ids=str
)
def test_what_cannot_be_amended_needs_a_copy(tmp_path: Path, asked: dict[str, Any]) -> None:
    given = image(tmp_path / "image")
    result = refused("exists_different", **given, options=asked)
    assert len(result["evidence"]["differences"]) == 1
    result = four_beats(**given, options=asked, allow_rewrite=True)
    assert [action.split()[0] for action in result["actions"]] == ["Rewrite"]
    shows(given["path"], "qcow2")


def test_what_goes_off_with_the_newer_version_is_said(tmp_path: Path) -> None:
    given = image(tmp_path / "image", "lazy_refcounts=on")
    refused("bad_option", **given, options={"compat": "0.10", "lazy_refcounts": True})
    result = four_beats(**given, options={"compat": "0.10"})
    assert result["actions"] == [f"Amend {given['path']}: compat from 1.1 to 0.10, which turns off lazy_refcounts."]
