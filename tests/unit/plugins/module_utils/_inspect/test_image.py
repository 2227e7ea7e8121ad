"""As what a backing file is read: as QEMU takes it, whatever the record of its owner says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._inspect import image
from ansible_collections.platter.qemu.tests.lab import headers


def with_record(path: Path, content: bytes, recorded: str) -> str:
    """As its owner can make it."""
    path.write_bytes(content)
    try:
        os.setxattr(path, "user.platter.qemu", b'{"format": "%s"}' % recorded.encode())
    except OSError:
        pytest.skip("no extended attributes here")
    return str(path)


def test_a_base_is_what_the_overlay_says_not_what_its_own_record_does(tmp_path: Path) -> None:
    two = headers.qcow2(backing="/secret", backing_format="raw").ljust(headers.MIB, b"\0")
    two += headers.vpc(kind=2)[-512:]
    path = with_record(tmp_path / "base", two, "vpc")
    assert image.look_at(path).header.format == "vpc"  # type: ignore[union-attr]
    assert image.chain_header(path, "qcow2").backing_file == "/secret"
    with pytest.raises(errors.HeaderError):  # what QEMU guesses where the overlay says nothing is not known
        image.chain_header(path, None)


def test_a_record_of_raw_is_no_reason_to_read_what_is_recorded_as_something_else_as_raw(tmp_path: Path) -> None:
    path = with_record(tmp_path / "base", bytes(1024), "raw")
    with pytest.raises(errors.HeaderError):
        image.chain_header(path, "qcow2")
    assert image.chain_header(path, "raw").format == image.chain_header(path, None).format == "raw"


def test_what_is_guessed_is_guessed_by_the_bytes(tmp_path: Path) -> None:
    path = with_record(tmp_path / "base", headers.qcow2(backing="/secret"), "raw")
    assert image.chain_header(path, None).backing_file == "/secret"
    assert image.chain_header(path, "raw").backing_file is None
