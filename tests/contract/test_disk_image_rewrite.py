"""Converting in place: a new file with the same content takes the image's name, when the task allows it."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._formats.features import FEATURES
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused
from ansible_collections.platter.qemu.tests.lab.guest import MIB, facts, guest_bytes, scribble, shows
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create

FORMATS = [name for name in FEATURES if name != "luks"]


def made(path: Path, format: str) -> Path:
    """An image that the module remembers to have made: a raw one is known by nothing else."""
    result = call("disk_image", path=str(path), format=format, size="4M")
    assert result["changed"], result
    scribble(path, format)
    return path


@pytest.mark.parametrize(("old", "new"), list(itertools.permutations(FORMATS, 2)))
def test_every_format_becomes_every_other(tmp_path: Path, old: str, new: str) -> None:
    path = made(tmp_path / "image", old)
    result = four_beats(path=str(path), format=new, allow_rewrite=True)
    assert [action.split()[0] for action in result["actions"]] == ["Rewrite"]
    assert facts(path, new)["format"] == new
    shows(path, new)


@pytest.mark.parametrize(("old", "new"), [("raw", "qcow2"), ("qcow2", "raw"), ("vmdk", "qcow2"), ("vpc", "vhdx")])
def test_another_format_is_refused_without_consent(tmp_path: Path, old: str, new: str) -> None:
    path = made(tmp_path / "image", old)
    result = refused("exists_different", path=str(path), format=new)
    assert result["evidence"] == {"differences": [f"format {old} instead of {new}"]}


@pytest.mark.parametrize(("old", "new"), [("raw", "qcow2"), ("qcow2", "raw"), ("vmdk", "raw")])
def test_a_raw_image_is_never_concluded_from_the_bytes_of_others(tmp_path: Path, old: str, new: str) -> None:
    path = create(tmp_path / "image", old, "4M")
    scribble(path, old)
    refused("format_mismatch", path=str(path), format=new, allow_rewrite=True)


@pytest.mark.parametrize(
    ("format", "made", "asked"),
    [
        ("vmdk", "subformat=monolithicSparse", {"subformat": "streamOptimized"}),
        ("vmdk", "subformat=streamOptimized", {"subformat": "monolithicSparse"}),
        ("vmdk", "adapter_type=ide", {"adapter_type": "lsilogic", "hwversion": "7"}),
        ("vdi", "static=off", {"static": True}),
        ("vhdx", "subformat=dynamic", {"subformat": "fixed"}),
        ("vpc", "subformat=dynamic", {"subformat": "fixed"}),
        ("vpc", "subformat=fixed", {"subformat": "dynamic"}),
        ("qed", "cluster_size=64k", {"cluster_size": "32K"}),
        ("parallels", "cluster_size=1M", {"cluster_size": "512K"}),
    ],
)
def test_an_option_that_is_in_the_bytes_needs_a_copy(
    tmp_path: Path, format: str, made: str, asked: dict[str, Any]
) -> None:
    path = create(tmp_path / "image", format, "4M", made)
    if "streamOptimized" not in made:
        scribble(path, format)
    seen = guest_bytes(path, format)
    refused("exists_different", path=str(path), format=format, options=asked)
    four_beats(path=str(path), format=format, options=asked, allow_rewrite=True)
    assert guest_bytes(path, format) == seen


def test_a_copy_keeps_the_options_that_are_not_named(tmp_path: Path) -> None:
    path = create(tmp_path / "image", "qcow2", "4M", "refcount_bits=8,lazy_refcounts=on,extended_l2=on")
    four_beats(path=str(path), format="qcow2", options={"cluster_size": "128K"}, allow_rewrite=True)
    data = facts(path, "qcow2")["format-specific"]["data"]
    assert (data["refcount-bits"], data["lazy-refcounts"], data["extended-l2"]) == (8, True, True)


@pytest.mark.parametrize("asked", [{"cluster_size": "128K"}, {"compression_type": "zstd"}], ids=str)
def test_the_copy_of_an_overlay_is_an_overlay(tmp_path: Path, asked: dict[str, Any]) -> None:
    base = create(tmp_path / "base.qcow2", "qcow2", "4M")
    scribble(base, "qcow2")
    path = create(tmp_path / "overlay.qcow2", "qcow2", "", "", "-b", base, "-F", "qcow2")
    scribble(path, "qcow2", ((0x77, 2 * MIB, 4096),))
    seen = guest_bytes(path, "qcow2")
    given: dict[str, Any] = {"path": str(path), "format": "qcow2", "options": asked, "allow_rewrite": True}
    four_beats(**given, backing={"path": str(base), "format": "qcow2"})
    assert guest_bytes(path, "qcow2") == seen
    assert facts(path, "qcow2")["backing-filename"] == str(base)
    assert path.stat().st_blocks * 512 < MIB


@pytest.mark.parametrize("forged", [False, True])
def test_a_copy_has_all_of_its_bytes_only_if_the_image_has(tmp_path: Path, forged: bool) -> None:
    path = tmp_path / "image"
    prepared(
        "disk_image", path=str(path), format="qcow2", size="8M", options={} if forged else {"preallocation": "full"}
    )
    if forged:
        os.setxattr(path, "user.platter.qemu", b'{"format": "qcow2", "options": {"preallocation": "full"}}')
    four_beats(path=str(path), format="qcow2", options={"cluster_size": "32K"}, allow_rewrite=True)
    assert (path.stat().st_blocks * 512 > 8 * MIB) is not forged


def test_an_overlay_becomes_a_format_that_has_no_base(tmp_path: Path) -> None:
    base = create(tmp_path / "base.qcow2", "qcow2", "4M")
    scribble(base, "qcow2")
    path = create(tmp_path / "overlay", "qcow2", "", "", "-b", base, "-F", "qcow2")
    four_beats(path=str(path), format="vmdk", current_format="qcow2", allow_rewrite=True)
    base.unlink()
    shows(path, "vmdk")


def raw_disk(path: Path, secret: Path) -> dict[str, Any]:
    """The task that makes an image of a raw disk, whose guest has written a header that names C(secret)."""
    secret.write_bytes(b"secret" * 512)
    create(path, "qcow2", "64K", "", "-b", secret, "-F", "raw")
    return {"path": str(path), "format": "qcow2", "current_format": "raw", "allow_rewrite": True}


@pytest.mark.parametrize("more", [{}, {"size": "1M"}, {"flatten": True}], ids=str)
def test_what_the_guest_of_a_raw_disk_has_written_is_not_taken_for_its_image(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    task = raw_disk(tmp_path / "image", tmp_path / "secret")
    evidence = refused("format_mismatch", **task, **more)["evidence"]
    assert evidence == {"asked": "qcow2", "current_format": "raw", "found": ["qcow2"]}


def test_what_the_guest_of_a_raw_disk_has_written_is_not_made_raw(tmp_path: Path) -> None:
    task = {**raw_disk(tmp_path / "image", tmp_path / "secret"), "format": "raw", "current_format": "qcow2"}
    assert refused("format_mismatch", **task)["evidence"]["file"] == str(tmp_path / "secret")


@pytest.mark.parametrize("old", ["qcow2", "vdi", "vmdk"])
def test_an_image_of_others_becomes_raw(tmp_path: Path, old: str) -> None:
    path = create(tmp_path / "image", old, "4M")
    scribble(path, old)
    four_beats(path=str(path), format="raw", current_format=old, allow_rewrite=True)
    shows(path, "raw")


def test_one_task_converts_and_grows(tmp_path: Path) -> None:
    path = create(tmp_path / "image", "vdi", "4M")
    scribble(path, "vdi")
    four_beats(path=str(path), format="qcow2", size="8M", current_format="vdi", allow_rewrite=True)
    assert facts(path, "qcow2")["virtual-size"] == 8 * MIB
    shows(path, "qcow2")


def test_a_copy_can_be_compressed(tmp_path: Path) -> None:
    path = made(tmp_path / "image", "raw")
    scribble(path, "raw", ((0x55, 0, 4 * MIB),))
    four_beats(path=str(path), format="qcow2", compressed=True, allow_rewrite=True)
    assert facts(path, "qcow2")["format-specific"]["data"]["compression-type"] == "zstd"
    assert path.stat().st_size < MIB
    shows(path, "qcow2", ((0x55, 0, 4 * MIB),))


def test_a_copy_keeps_owner_and_mode(tmp_path: Path) -> None:
    path = made(tmp_path / "image", "raw")
    path.chmod(0o640)
    four_beats(path=str(path), format="qcow2", allow_rewrite=True)
    assert path.stat().st_mode & 0o777 == 0o640


def test_the_replaced_file_is_kept_when_asked(tmp_path: Path) -> None:
    path = made(tmp_path / "image", "raw")
    before = path.read_bytes()
    result = four_beats(path=str(path), format="qcow2", allow_rewrite=True, backup=True)
    assert Path(result["backup_file"]).read_bytes() == before


def test_a_guest_that_wrote_a_header_does_not_choose_the_format(tmp_path: Path) -> None:
    """The raw image that we made stays raw, whatever its guest wrote at its beginning."""
    path = tmp_path / "disk.raw"
    prepared("disk_image", path=str(path), format="raw", size="4M")
    inner = create(tmp_path / "inner", "qcow2", "1M", "", "-u", "-b", "/etc/passwd", "-F", "raw")
    with path.open("r+b") as stream:
        stream.write(inner.read_bytes()[:65536])
    before = guest_bytes(path, "raw")
    four_beats(path=str(path), format="vdi", allow_rewrite=True)
    assert guest_bytes(path, "vdi") == before


def test_a_header_in_a_raw_image_of_others_needs_consent(tmp_path: Path) -> None:
    path = create(tmp_path / "disk.raw", "raw", "4M")
    with path.open("r+b") as stream:
        stream.write(b"QFI\xfb\0\0\0\3")
    refused("format_mismatch", path=str(path), format="raw", size="8M")
    four_beats(path=str(path), format="raw", size="8M", allow_nested_header=True)
    assert path.stat().st_size == 8 * MIB


def test_an_image_of_unknown_content_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "letters"
    path.write_text("Liebe Eltern, " * 100)
    for format in (name for name in FORMATS if name != "raw"):
        refused("format_mismatch", path=str(path), format=format, size="4M", allow_rewrite=True)
