"""The mount table is read as the kernel writes it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._inspect.mounts import (
    Mount,
    mount_of,
    network_filesystem,
    read_mounts,
    unescape,
)


def mount(point: str, fstype: str) -> Mount:
    return Mount(1, point, fstype, "source", True)


@pytest.mark.parametrize(
    ("fstype", "networked"),
    [
        ("nfs", True),
        ("nfs4", True),
        ("cifs", True),
        ("ceph", True),
        ("9p", True),
        ("fuse.glusterfs", True),
        ("fuse.sshfs", True),
        ("virtiofs", True),
        ("ext4", False),
        ("fuseblk", False),
        ("tmpfs", False),
        ("overlay", False),
    ],
)
def test_shared_file_systems_are_known(fstype: str, networked: bool) -> None:
    assert mount("/", fstype).networked is networked


def test_the_deepest_mount_counts_and_of_two_on_one_point_the_last() -> None:
    mounts = [mount("/", "ext4"), mount("/srv", "nfs"), mount("/srv/images", "xfs"), mount("/srv", "ext4")]
    assert mount_of("/srv/images/a/b", mounts) == mounts[2]
    assert mount_of("/srv/b", mounts) == mounts[3]
    assert mount_of("/srvx", mounts) == mounts[0]


def test_a_link_is_followed_to_its_file_system(tmp_path: Path) -> None:
    (tmp_path / "here").symlink_to("/srv/images")
    mounts = [mount("/", "ext4"), mount("/srv", "nfs")]
    assert mount_of(str(tmp_path / "here" / "a.qcow2"), mounts) == mounts[1]


def test_escaped_spaces_are_read() -> None:
    assert unescape(rb"/mnt/a\040b\134c") == "/mnt/a b\\c"


def test_the_own_mount_table_is_read() -> None:
    root = mount_of("/", read_mounts())
    assert root is not None and root.mount_point == "/"
    assert {each.device for each in read_mounts()} >= {os.stat("/proc").st_dev}
    assert network_filesystem("/proc/self/status") is None


def test_a_process_that_is_gone_has_no_mounts() -> None:
    assert read_mounts("4194305") == []
