"""Files packed by the real programs come out the same, sparse, and never fill the disk."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import RefusedError
from ansible_collections.platter.qemu.plugins.module_utils._tools.decompress import decompress, detect_compression
from ansible_collections.platter.qemu.tests.lab.loops import HAVE_LOOPS, mounted

MIB = 1 << 20
TOOLS = {"gz": "gzip", "bz2": "bzip2", "xz": "xz", "zst": "zstd"}
KINDS = sorted(TOOLS)
CONTENT = random.Random(7).randbytes(MIB + 77) + bytes(8 * MIB) + b"text " * 50_000 + bytes(3)


def pack(kind: str, content: bytes, *options: str) -> bytes:
    return subprocess.run([TOOLS[kind], "-c", *options], input=content, stdout=subprocess.PIPE, check=True).stdout


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    return tmp_path / "disk.packed"


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "disk"


def reason(packed: Path, dest: Path, kind: str, **options: int) -> str:
    with pytest.raises(RefusedError) as caught:
        decompress(str(packed), str(dest), kind, **options)
    assert not dest.exists()
    return caught.value.reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["named", "auto"])
def test_what_was_packed_comes_out(packed: Path, dest: Path, kind: str, how: str) -> None:
    packed.write_bytes(pack(kind, CONTENT))
    report = decompress(str(packed), str(dest), kind if how == "named" else "auto")
    assert hashlib.sha256(dest.read_bytes()).digest() == hashlib.sha256(CONTENT).digest()
    assert (report.compression, report.bytes) == (kind, len(CONTENT))
    assert dest.stat().st_blocks * 512 < 2 * MIB
    assert dest.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", KINDS)
def test_several_streams_in_a_row_are_one_file(packed: Path, dest: Path, kind: str) -> None:
    packed.write_bytes(pack(kind, b"one" * 100_000) + pack(kind, b"") + pack(kind, b"two" * 100_000))
    decompress(str(packed), str(dest), kind)
    assert dest.read_bytes() == b"one" * 100_000 + b"two" * 100_000


@pytest.mark.parametrize("kind", ["gz", "xz"])
def test_zeros_between_and_behind_streams_are_padding(packed: Path, dest: Path, kind: str) -> None:
    packed.write_bytes(pack(kind, b"one") + bytes(300_000) + pack(kind, b"two") + bytes(512))
    decompress(str(packed), str(dest), kind)
    assert dest.read_bytes() == b"onetwo"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", [b"", b"x", bytes(200_000)])
def test_small_files(packed: Path, dest: Path, kind: str, content: bytes) -> None:
    packed.write_bytes(pack(kind, content))
    decompress(str(packed), str(dest), "auto")
    assert dest.read_bytes() == content


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["cut", "flipped", "tail", "cut at the end", "other"])
def test_a_damaged_file_is_refused_and_nothing_is_left(packed: Path, dest: Path, kind: str, damage: str) -> None:
    content = bytearray(pack(kind, CONTENT))
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "cut at the end":
        del content[-2:]
    elif damage == "flipped":
        content[len(content) // 3] ^= 0x10
    elif damage == "tail":
        content += b"no stream"
    else:
        content = bytearray(b"no packed file at all")
    packed.write_bytes(content)
    assert reason(packed, dest, kind) == "decompression_failed"


@pytest.mark.parametrize("kind", KINDS)
def test_a_bomb_stops_at_the_limit(packed: Path, dest: Path, kind: str) -> None:
    packed.write_bytes(pack(kind, bytes(64 * MIB)))
    assert packed.stat().st_size < 100_000
    assert reason(packed, dest, kind, limit_bytes=64 * MIB - 1) == "decompression_bomb"
    decompress(str(packed), str(dest), kind, limit_bytes=64 * MIB)


@pytest.mark.skipif(not HAVE_LOOPS, reason="needs root to mount a small file system")
@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_disk_is_not_filled(packed: Path, tmp_path: Path, kind: str) -> None:
    packed.write_bytes(pack(kind, random.Random(3).randbytes(12 * MIB)))
    small = tmp_path / "small"
    small.mkdir()
    with mounted("none", small, "-t", "tmpfs", "-o", "size=16M"):
        assert reason(packed, small / "disk", kind, free_bytes_reserve=6 * MIB) == "would_exceed_space"
        assert os.listdir(small) == []
        (small / "other").write_bytes(bytes(8 * MIB))
        assert reason(packed, small / "disk", kind) == "would_exceed_space"
        (small / "other").unlink()
        decompress(str(packed), str(small / "disk"), kind, free_bytes_reserve=MIB)


def test_what_is_not_packed_is_not_unpacked(packed: Path, dest: Path) -> None:
    for content in (b"", b"QFI\xfb", b"BZh and so on", b"\x1f\x8b", CONTENT):
        packed.write_bytes(content)
        assert detect_compression(str(packed)) is None
        assert reason(packed, dest, "auto") == "not_compressed"


def test_an_empty_bz2_file_is_known(packed: Path) -> None:
    packed.write_bytes(pack("bz2", b""))
    assert detect_compression(str(packed)) == "bz2"


def test_an_existing_file_is_not_overwritten(packed: Path, dest: Path) -> None:
    packed.write_bytes(pack("gz", b"new"))
    dest.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        decompress(str(packed), str(dest), "gz")
    assert dest.read_bytes() == b"old"


def test_a_missing_program_is_named(packed: Path, dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.version_info >= (3, 14):
        pytest.skip("this Python needs no program for zst")
    packed.write_bytes(pack("zst", b"x"))
    monkeypatch.setenv("PATH", "/nonexistent")
    assert reason(packed, dest, "zst") == "tool_missing"


def test_a_dictionary_too_large_for_us_is_refused(packed: Path, dest: Path) -> None:
    packed.write_bytes(pack("xz", b"x", "--lzma2=dict=1536MiB"))
    assert reason(packed, dest, "xz") == "decompression_failed"
