"""A partition is a part of its disk, a loop device of its file, whatever they are called."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._inspect.occupied import Extent, extents_of
from ansible_collections.platter.qemu.tests.lab.loops import HAVE_LOOPS, attached

MIB = 1 << 20
needs_loops = pytest.mark.skipif(not HAVE_LOOPS, reason="needs root and loop devices")


def meet(one: object, other: object) -> bool:
    found = extents_of([str(one), str(other)])
    return any(a.meets(b) for a in found[str(one)] for b in found[str(other)])


def test_a_file_is_itself_by_any_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"x")
    os.symlink(tmp_path / "a", tmp_path / "link")
    assert meet(tmp_path / "a", tmp_path / "link") and not meet(tmp_path / "a", tmp_path / "b")
    os.mkfifo(tmp_path / "fifo")
    assert meet(tmp_path / "fifo", tmp_path / "." / "fifo") and meet(tmp_path / "none", tmp_path / "none")


@needs_loops
def test_a_loop_device_is_its_file_and_a_part_of_it_only_that_part(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(8 * MIB))
    first, second = (f"--offset={number * MIB}" for number in (1, 4))
    limit = f"--sizelimit={3 * MIB}"
    with attached(disk) as whole, attached(disk, first, limit) as one, attached(disk, second) as rest:
        assert meet(whole, disk) and meet(one, disk) and meet(one, whole) and meet(rest, whole)
        assert not meet(one, rest)
        with attached(one) as inner:
            assert meet(inner, disk) and meet(inner, one) and not meet(inner, rest)


@needs_loops
def test_a_partition_is_a_part_of_its_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(8 * MIB))
    with attached(disk) as device:
        for number, start in ((1, 2048), (2, 6144)):
            subprocess.run(["addpart", device, str(number), str(start), "2048"], check=True)
        try:
            sysfs = f"/sys/block/{os.path.basename(device)}/{os.path.basename(device)}p"
            nodes = []
            for number in (1, 2):
                major, minor = map(int, Path(f"{sysfs}{number}/dev").read_text().split(":"))
                nodes.append(tmp_path / f"p{number}")
                os.mknod(nodes[-1], 0o60600, os.makedev(major, minor))
            assert meet(nodes[0], device) and meet(nodes[0], disk) and not meet(*nodes)
        finally:
            for number in ("1", "2"):
                subprocess.run(["delpart", device, number], check=True)


def test_two_volumes_of_one_group_do_not_meet() -> None:
    disk = (-1, 8)
    one, other = (Extent(disk, somewhere=True) for _twice in range(2))
    assert not one.meets(other) and one.meets(Extent(disk)) and not Extent((-1, 9)).meets(Extent(disk))
