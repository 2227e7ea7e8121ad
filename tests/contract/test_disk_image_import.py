"""Imports from files: every format to every other, packed, verified, compressed, and sources that are not as declared."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import itertools
import lzma
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._formats.features import FEATURES
from ansible_collections.platter.qemu.plugins.module_utils._image.gate import ALLOWED_FORMATS
from ansible_collections.platter.qemu.tests.lab.beats import digest, four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.guest import KIB, MIB, facts, guest_bytes, scribble, shows
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img

FORMATS = [name for name in FEATURES if name != "luks"]
PACKED = {"gzip": "gz", "bzip2": "bz2", "xz": "xz", "zstd": "zst"}


def made(path: Path, format: str = "qcow2", options: str = "") -> Path:
    create(path, format, "4M", options)
    scribble(path, format)
    return path


def task(path: object, source: object, format: str = "qcow2", **more: Any) -> dict[str, Any]:
    """A task that imports to qcow2; C(more) goes to source."""
    return {"path": str(path), "format": "qcow2", "source": {"path": str(source), "format": format, **more}}


def packed(source: Path, kind: str) -> Path:
    path = source.with_name(f"{source.name}.{PACKED[kind]}")
    if kind == "zstd":
        subprocess.run(["zstd", "-q", source, "-o", path], check=True)
        return path
    pack = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}[kind]
    path.write_bytes(pack(source.read_bytes()))
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return made(tmp_path / "source.qcow2")


@pytest.mark.parametrize(("old", "new"), list(itertools.product(FORMATS, FORMATS)))
def test_every_format_is_imported_as_every_other(tmp_path: Path, old: str, new: str) -> None:
    source = made(tmp_path / "source", old)
    before = digest(source)
    path = tmp_path / "image"
    trusted = old not in ALLOWED_FORMATS
    result = four_beats(path=str(path), format=new, source={"path": str(source), "format": old, "trusted": trusted})
    assert result["actions"][0].startswith(f"Import {source} ({old}) to {path} as {new}, ")
    assert facts(path, new)["format"] == new
    shows(path, new)
    assert digest(source) == before


def test_an_import_may_be_larger_than_its_source(tmp_path: Path, source: Path) -> None:
    for number, format in enumerate(["qcow2", "raw", "vmdk"]):
        path = tmp_path / f"image{number}"
        given = {"path": str(path), "format": format, "size": "6M"}
        four_beats(**given, source={"path": str(source), "format": "qcow2"})
        assert facts(path, format)["virtual-size"] == 6 * MIB
        shows(path, format)


def test_an_import_smaller_than_its_source_is_refused(tmp_path: Path, source: Path) -> None:
    refused("shrink_refused", **task(tmp_path / "image", source), size="2M")


def test_an_import_is_made_with_options(tmp_path: Path, source: Path) -> None:
    path = tmp_path / "image"
    four_beats(**task(path, source), options={"cluster_size": "128K", "compat": "0.10"})
    told = facts(path, "qcow2")
    assert (told["cluster-size"], told["format-specific"]["data"]["compat"]) == (128 * KIB, "0.10")
    shows(path, "qcow2")


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
def test_the_checksum_is_verified(tmp_path: Path, source: Path, algorithm: str) -> None:
    right = f"{algorithm}:{hashlib.new(algorithm, source.read_bytes()).hexdigest()}"
    wrong = right[:-1] + ("0" if right[-1] != "0" else "1")
    refused("checksum_mismatch", **task(tmp_path / "image", source, checksum=wrong))
    four_beats(**task(tmp_path / "image", source, checksum=right))
    settled(**task(tmp_path / "image", source, checksum=right.upper().replace(algorithm.upper(), algorithm)))


@pytest.mark.parametrize("checksum", ["sha256:", "sha256:xyz", "crc32:00000000", "nothing", "md5:00"])
def test_what_is_no_checksum_is_refused(tmp_path: Path, source: Path, checksum: str) -> None:
    refused("bad_checksum", **task(tmp_path / "image", source, checksum=checksum))


@pytest.mark.parametrize("kind", list(PACKED))
@pytest.mark.parametrize("said", [True, False])
def test_a_packed_source_is_unpacked(tmp_path: Path, source: Path, kind: str, said: bool) -> None:
    archive = packed(source, kind)
    checksum = f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"
    more = {"compression": kind} if said else {}
    four_beats(**task(tmp_path / "image", archive, checksum=checksum, **more), unpredictable=["virtual_size"])
    shows(tmp_path / "image", "qcow2")


def test_a_packed_source_is_not_unpacked_when_the_task_says_so(tmp_path: Path, source: Path) -> None:
    archive = packed(source, "gzip")
    refused("format_mismatch", **task(tmp_path / "image", archive, compression="none"))


def test_a_source_that_is_not_packed_as_said_is_refused(tmp_path: Path, source: Path) -> None:
    result = call("disk_image", **task(tmp_path / "image", source, compression="xz"))
    assert (result["failed"], result["changed"]) == (True, False)
    assert result["msg"].startswith("refused: ")
    assert not (tmp_path / "image").exists()


def test_a_damaged_archive_is_refused(tmp_path: Path, source: Path) -> None:
    archive = packed(source, "xz")
    archive.write_bytes(archive.read_bytes()[:-100])
    result = call("disk_image", **task(tmp_path / "image", archive))
    assert (result["failed"], result["changed"]) == (True, False)
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(("image", "."))] == []


def test_more_than_the_limit_is_not_unpacked(tmp_path: Path) -> None:
    raw = create(tmp_path / "zeros.raw", "raw", "64M")
    result = call("disk_image", **task(tmp_path / "image", packed(raw, "gzip"), "raw"), max_virtual_size="8M")
    assert (result["failed"], result["changed"], result["reason"]) == (True, False, "decompression_bomb")


def test_a_changed_source_is_imported_again_only_when_asked(tmp_path: Path, source: Path) -> None:
    given = task(tmp_path / "image", source)
    four_beats(**given)
    scribble(source, "qcow2", ((0x77, 3 * MIB, KIB),))
    settled(**given)
    result = four_beats(**given, source_policy="if_changed", backup=True)
    assert "replacing the image there: the source file has changed" in result["actions"][0]
    shows(result["backup_file"], "qcow2")
    shows(tmp_path / "image", "qcow2", ((0x77, 3 * MIB, KIB),))


def test_another_checksum_is_another_source(tmp_path: Path, source: Path) -> None:
    def sha256() -> str:
        return f"sha256:{hashlib.sha256(source.read_bytes()).hexdigest()}"

    given = task(tmp_path / "image", source, checksum=sha256())
    four_beats(**given, source_policy="if_changed")
    os.utime(source)
    settled(**given, source_policy="if_changed")
    scribble(source, "qcow2", ((0x77, 3 * MIB, KIB),))
    given["source"]["checksum"] = sha256()
    settled(**given)
    result = four_beats(**given, source_policy="if_changed")
    assert result["image"]["source"] == sha256()


def test_a_checksum_of_another_kind_is_no_other_source(tmp_path: Path, source: Path) -> None:
    """The two cannot be compared; length and time of the file can."""
    given = task(tmp_path / "image", source)
    for kind in ("sha256", "sha512"):
        given["source"]["checksum"] = f"{kind}:{hashlib.new(kind, source.read_bytes()).hexdigest()}"
        (four_beats if kind == "sha256" else settled)(**given, source_policy="if_changed")
    scribble(source, "qcow2", ((0x77, 3 * MIB, KIB),))
    given["source"]["checksum"] = f"sha512:{hashlib.sha512(source.read_bytes()).hexdigest()}"
    result = four_beats(**given, source_policy="if_changed")
    assert result["image"]["source"] == given["source"]["checksum"]


def test_a_golden_image_is_compressed_with_zstd(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(bytes(range(256)) * (16 * KIB))
    path = tmp_path / "golden.qcow2"
    four_beats(**task(path, raw, "raw"), compressed=True)
    assert facts(path, "qcow2")["format-specific"]["data"]["compression-type"] == "zstd"
    assert path.stat().st_size < MIB
    assert guest_bytes(path, "qcow2") == raw.read_bytes()


@pytest.mark.parametrize("options", [{"compression_type": "zlib"}, {"compat": "0.10"}], ids=str)
def test_a_golden_image_for_old_programs_is_compressed_with_zlib(tmp_path: Path, source: Path, options: Any) -> None:
    path = tmp_path / "golden.qcow2"
    four_beats(**task(path, source), compressed=True, options=options)
    assert facts(path, "qcow2")["format-specific"]["data"].get("compression-type", "zlib") == "zlib"
    shows(path, "qcow2")


def test_a_vmdk_is_compressed_as_stream_optimized_only(tmp_path: Path, source: Path) -> None:
    given = {**task(tmp_path / "image.vmdk", source), "format": "vmdk"}
    for options in ({}, {"subformat": "monolithicSparse"}, {"subformat": "twoGbMaxExtentSparse"}):
        refused("bad_option", **given, compressed=True, options=options)
    four_beats(**given, compressed=True, options={"subformat": "streamOptimized"})
    (extent,) = facts(given["path"], "vmdk")["format-specific"]["data"]["extents"]
    assert extent["compressed"] is True


@pytest.mark.parametrize("format", ["raw", "vdi", "vhdx"])
def test_formats_without_compression_refuse_it(tmp_path: Path, source: Path, format: str) -> None:
    refused("bad_option", **{**task(tmp_path / "image", source), "format": format}, compressed=True)


def test_holes_stay_holes(tmp_path: Path) -> None:
    source = tmp_path / "source.raw"
    create(source, "raw", "64M")
    scribble(source, "raw", ((0x11, 32 * MIB, 64 * KIB),))
    four_beats(path=str(tmp_path / "image"), format="raw", source={"path": str(source), "format": "raw"})
    assert (tmp_path / "image").stat().st_blocks * 512 <= 128 * KIB


def test_snapshots_of_the_source_do_not_hinder(tmp_path: Path, source: Path) -> None:
    qemu_img("snapshot", "-c", "before", source)
    four_beats(**task(tmp_path / "image", source))
    shows(tmp_path / "image", "qcow2")


# --- sources that are not what they are said to be


def test_a_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refused("source_missing", **task(tmp_path / "image", tmp_path / "none"))


def test_a_directory_is_no_source(tmp_path: Path) -> None:
    refused("source_missing", **task(tmp_path / "image", tmp_path))


def test_a_source_of_another_format_is_refused(tmp_path: Path, source: Path) -> None:
    for format in ("raw", "vmdk", "vdi"):
        refused("format_mismatch", **task(tmp_path / "image", source, format))


def test_a_trusted_raw_source_may_hold_an_image(tmp_path: Path, source: Path) -> None:
    path = tmp_path / "image.raw"
    given = {"path": str(path), "format": "raw", "source": {"path": str(source), "format": "raw", "trusted": True}}
    four_beats(**given)
    assert path.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_an_ordinary_disk_is_a_raw_source(tmp_path: Path, label: str) -> None:
    source = create(tmp_path / "source.raw", "raw", "8M")
    subprocess.run(["sfdisk", "-q", source], input=f"label: {label}\n2048,8192\n", text=True, check=True)
    four_beats(**task(tmp_path / "image", source, "raw"))
    assert guest_bytes(tmp_path / "image", "qcow2") == source.read_bytes()


@pytest.mark.parametrize("format", ["qed", "qcow"])
def test_rare_formats_are_read_only_when_trusted(tmp_path: Path, format: str) -> None:
    source = made(tmp_path / "source", format)
    refused("format_not_allowed", **task(tmp_path / "image", source, format))


@pytest.mark.parametrize(
    ("backing", "reason"),
    [("/etc/passwd", "image_references_file"), ("nbd://127.0.0.1/x", "backing_protocol_refused")],
)
def test_a_source_that_names_other_places_is_refused(tmp_path: Path, backing: str, reason: str) -> None:
    source = create(tmp_path / "source", "qcow2", "4M", "", "-u", "-b", backing, "-F", "raw")
    refused(reason, **task(tmp_path / "image", source))


def test_a_trusted_source_is_imported_with_its_backing_file(tmp_path: Path, source: Path) -> None:
    overlay = create(tmp_path / "overlay", "qcow2", "", "", "-b", source, "-F", "qcow2")
    refused("image_references_file", **task(tmp_path / "image", overlay))
    four_beats(**task(tmp_path / "image", overlay, trusted=True))
    assert "backing-filename" not in facts(tmp_path / "image", "qcow2")
    shows(tmp_path / "image", "qcow2")


def test_unknown_features_are_refused(tmp_path: Path, source: Path) -> None:
    with source.open("r+b") as stream:
        stream.seek(72)
        stream.write((1 << 40).to_bytes(8, "big"))
    refused("unknown_features", **task(tmp_path / "image", source))
    refused("unknown_features", path=str(source), format="qcow2", size="8M")


def test_a_huge_source_is_refused(tmp_path: Path) -> None:
    source = create(tmp_path / "source", "qcow2", "2T")
    refused("bad_size", **task(tmp_path / "image", source))
    refused("bad_size", **task(tmp_path / "image", source), max_virtual_size="1.5T")


def test_a_truncated_source_is_refused(tmp_path: Path, source: Path) -> None:
    with source.open("r+b") as stream:
        stream.truncate(source.stat().st_size - 300 * KIB)
    result = call("disk_image", **task(tmp_path / "image", source))
    assert (result["failed"], result["reason"], result["changed"]) == (True, "source_damaged", False)
    assert not (tmp_path / "image").exists()


def test_a_source_needs_one_place(tmp_path: Path, source: Path) -> None:
    both = {"path": str(source), "url": "http://127.0.0.1/x", "format": "qcow2"}
    for given in (both, {"format": "qcow2"}):
        refused("bad_option", path=str(tmp_path / "image"), format="qcow2", source=given)


def test_an_image_has_a_source_or_a_base(tmp_path: Path, source: Path) -> None:
    backing = {"path": str(shutil.copy(source, tmp_path / "base")), "format": "qcow2"}
    refused("bad_option", **task(tmp_path / "image", source), backing=backing)
