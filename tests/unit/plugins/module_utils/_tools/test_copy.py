"""A copy is the same bytes, with the source's holes, on whatever file system the tests run."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import EngineError
from ansible_collections.platter.qemu.plugins.module_utils._tools import copy, sparse
from ansible_collections.platter.qemu.plugins.module_utils._tools.copy import copy_file
from ansible_collections.platter.qemu.plugins.module_utils._tools.sparse import digest_of, write_sparse

MIB = 1 << 20
BLOCK = sparse.BLOCK


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """4 MiB data, a hole, data at an odd place, zeros that are written, and a hole at the end."""
    path = tmp_path / "source"
    with path.open("wb") as file:
        file.write(os.urandom(4 * MIB))
        file.seek(9 * MIB + 4096)
        file.write(b"odd" * 1000)
        file.seek(16 * MIB)
        file.write(bytes(2 * MIB))
        file.truncate(64 * MIB + 512)
    return path


@pytest.mark.parametrize("options", [{}, {"reflink": False}, {"find_zeros": True}, {"digest": "sha256"}])
def test_a_copy_is_the_same_and_keeps_the_holes(source: Path, tmp_path: Path, options: dict[str, object]) -> None:
    target = tmp_path / "target"
    report = copy_file(str(source), str(target), **options)  # type: ignore[arg-type]
    assert sha256(target) == sha256(source)
    assert target.stat().st_size == source.stat().st_size
    assert allocated(target) <= allocated(source) + 2 * BLOCK
    assert report.digest == (sha256(source) if "digest" in options else None)


@pytest.mark.parametrize("method", ["copy_file_range", "sendfile", "read_write"])
def test_every_way_of_copying_gives_the_same(
    source: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [name for name, _call in copy._METHODS]
    monkeypatch.setattr(copy, "_METHODS", copy._METHODS[names.index(method) :])
    report = copy_file(str(source), str(tmp_path / "target"), reflink=False)
    assert (report.method, report.bytes >= 6 * MIB) == (method, True)
    assert sha256(tmp_path / "target") == sha256(source)


def test_between_file_systems_the_next_way_is_taken(source: Path) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == source.stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    target = other / f"platter-test-{os.getpid()}"
    try:
        report = copy_file(str(source), str(target))
        assert sha256(target) == sha256(source)
        assert report.method in ("copy_file_range", "sendfile")
        assert allocated(target) <= allocated(source) + 2 * BLOCK
    finally:
        target.unlink()


def test_written_zeros_become_holes_when_asked(source: Path, tmp_path: Path) -> None:
    kept = copy_file(str(source), str(tmp_path / "kept"), reflink=False)
    found = copy_file(str(source), str(tmp_path / "found"), find_zeros=True, reflink=False)
    assert kept.bytes - found.bytes >= 2 * MIB - BLOCK
    assert sha256(tmp_path / "found") == sha256(source)


def test_an_old_and_longer_destination_is_replaced_in_full(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    for options in ({}, {"find_zeros": True}):
        target.write_bytes(b"\xff" * (80 * MIB))
        copy_file(str(source), str(target), reflink=False, **options)  # type: ignore[arg-type]
        assert sha256(target) == sha256(source)


def test_a_descriptor_is_written_and_stays_open(source: Path, tmp_path: Path) -> None:
    fd = os.open(tmp_path / "target", os.O_WRONLY | os.O_CREAT)
    try:
        copy_file(str(source), fd, reflink=False)
        assert os.fstat(fd).st_size == source.stat().st_size
    finally:
        os.close(fd)
    assert sha256(tmp_path / "target") == sha256(source)


def test_a_new_file_is_private(source: Path, tmp_path: Path) -> None:
    copy_file(str(source), str(tmp_path / "target"))
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o600


def test_a_file_is_not_copied_onto_itself(source: Path, tmp_path: Path) -> None:
    before = sha256(source)
    os.link(source, tmp_path / "same")
    with pytest.raises(EngineError, match="onto itself"):
        copy_file(str(source), str(tmp_path / "same"))
    assert sha256(source) == before


@pytest.mark.parametrize("size", [0, 1, 511, BLOCK, BLOCK + 1])
@pytest.mark.parametrize("options", [{}, {"find_zeros": True}, {"digest": "sha512"}])
def test_small_files(tmp_path: Path, size: int, options: dict[str, object]) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    copy_file(str(source), str(tmp_path / "target"), reflink=False, **options)  # type: ignore[arg-type]
    assert (tmp_path / "target").read_bytes() == source.read_bytes()


def test_a_digest_covers_holes(source: Path) -> None:
    assert digest_of(str(source), "sha256") == sha256(source)


@given(st.lists(st.sampled_from([bytes(BLOCK), b"x" * BLOCK, bytes(7), b"\0y", bytes(BLOCK - 1) + b"z"]), max_size=8))
def test_what_is_left_out_is_zeros_and_nothing_else(parts: list[bytes]) -> None:
    data = b"".join(parts)
    fd = os.memfd_create("sparse")
    try:
        written = write_sparse(fd, data, BLOCK)
        os.ftruncate(fd, BLOCK + len(data))
        assert os.pread(fd, len(data) + 1, BLOCK) == data
        blocks = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]
        assert written == sum(len(block) for block in blocks if any(block))
    finally:
        os.close(fd)
