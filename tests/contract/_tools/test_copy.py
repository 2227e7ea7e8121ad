"""Copies where the file system and the device matter: reflinks, and block devices."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._tools.copy import copy_file
from ansible_collections.platter.qemu.plugins.module_utils._tools.sparse import digest_of
from ansible_collections.platter.qemu.tests.lab.loops import HAVE_LOOPS, attached, mounted

MIB = 1 << 20
pytestmark = pytest.mark.skipif(not HAVE_LOOPS, reason="needs root and loop devices")


@pytest.fixture(params=["xfs", "btrfs"])
def reflinking(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    disk, directory = tmp_path / "disk", tmp_path / "fs"
    with disk.open("wb") as file:
        file.truncate(400 * MIB)
    subprocess.run([f"mkfs.{request.param}", "-q", disk], check=True)
    directory.mkdir()
    with attached(disk) as device, mounted(device, directory):
        yield directory


def test_where_the_file_system_can_the_blocks_are_shared(reflinking: Path) -> None:
    source, target = reflinking / "source", reflinking / "target"
    source.write_bytes(os.urandom(30 * MIB))
    free = os.statvfs(reflinking).f_bfree
    report = copy_file(str(source), str(target), digest="sha256")
    assert (report.method, report.bytes) == ("reflink", 0)
    assert report.digest == digest_of(str(source), "sha256")
    assert target.read_bytes() == source.read_bytes()
    assert (free - os.statvfs(reflinking).f_bfree) * os.statvfs(reflinking).f_frsize < 5 * MIB


def test_a_reflink_can_be_declined(reflinking: Path) -> None:
    source = reflinking / "source"
    source.write_bytes(b"data" * 1000)
    assert copy_file(str(source), str(reflinking / "target"), digest="sha256", reflink=False).method == "read_write"


def test_holes_become_zeros_on_a_device_and_the_rest_of_it_stays(tmp_path: Path) -> None:
    disk, source = tmp_path / "disk", tmp_path / "source"
    disk.write_bytes(b"\xff" * (8 * MIB))
    with source.open("wb") as file:
        file.write(b"start")
        file.seek(2 * MIB)
        file.write(b"middle")
        file.truncate(4 * MIB + 100)
    with attached(disk) as device:
        report = copy_file(str(source), device, digest="sha256")
        fd = os.open(device, os.O_RDWR)
        os.fsync(fd)
        os.close(fd)
    content = disk.read_bytes()
    assert content[: 4 * MIB + 100] == source.read_bytes()
    assert content[4 * MIB + 100 :] == b"\xff" * (4 * MIB - 100)
    assert report.digest == digest_of(str(source), "sha256")


def test_a_device_is_copied_to_a_file(tmp_path: Path) -> None:
    disk, target = tmp_path / "disk", tmp_path / "target"
    disk.write_bytes(os.urandom(MIB) + bytes(MIB))
    with attached(disk) as device:
        copy_file(device, str(target), find_zeros=True)
    assert target.read_bytes() == disk.read_bytes()
    assert target.stat().st_blocks * 512 <= MIB + 65536
