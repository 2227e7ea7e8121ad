"""What QEMU cannot report back is remembered where files have no user attributes, too: in a file beside the image."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.guest import scribble, shows
from ansible_collections.platter.qemu.tests.lab.loops import HAVE_LOOPS
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create

pytestmark = [
    pytest.mark.skipif(not HAVE_LOOPS, reason="needs root and loop devices"),
    pytest.mark.xdist_group("loops"),
]
#: how a file system without user attributes is mounted, from its device or file to a directory
KINDS = {
    "ramfs": ["mount", "-t", "ramfs"],
    "ntfs": ["ntfs-3g", "-o", "streams_interface=none,permissions"],
    "vfat": ["mount", "-t", "vfat", "-o", "umask=077"],
}


@contextlib.contextmanager
def mounted(kind: str, device: Path, directory: Path) -> Iterator[None]:
    """That file system while the block runs, surely without attributes."""
    subprocess.run([*KINDS[kind], device, directory], check=True)
    try:
        directory.chmod(0o755)
        (directory / "try").touch()
        with pytest.raises(OSError) as caught:
            os.setxattr(directory / "try", "user.platter.qemu", b"")
        assert caught.value.errno == errno.ENOTSUP
        (directory / "try").unlink()
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


def made(kind: str, place: Path) -> Path:
    """A new file system of that kind."""
    file = create(place / "fs", "raw", "64M")
    if kind == "vfat" and "\tvfat\n" not in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has no vfat")
    if kind != "ramfs":
        force = ["-q", "-F"] if kind == "ntfs" else []
        subprocess.run([f"mkfs.{kind}", *force, file], check=True, capture_output=True)
    return file


@pytest.fixture(params=sorted(KINDS))
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A directory without user attributes."""
    file, directory = made(request.param, tmp_path), tmp_path / "mnt"
    directory.mkdir()
    with mounted(request.param, file, directory):
        yield directory


def sidecar(path: object) -> dict[str, Any]:
    """What lies beside the image about the very file that it is."""
    name = Path(str(path))
    found = json.loads((name.parent / f".{name.name}.platter.json").read_text())
    return dict(found[str(name.stat().st_ino)])


def test_what_an_image_was_made_with_is_remembered(bare: Path) -> None:
    task = {"path": str(bare / "disk.vmdk"), "format": "vmdk", "size": "1M"}
    result = four_beats(**task, options={"adapter_type": "lsilogic"})
    assert sidecar(task["path"]) == {"format": "vmdk", "options": {"adapter_type": "lsilogic"}}
    assert "unprovable_options" not in result
    refused("exists_different", **task, options={"adapter_type": "ide"})
    four_beats(**task, options={"adapter_type": "ide"}, allow_rewrite=True)
    assert sidecar(task["path"])["options"]["adapter_type"] == "ide"


def test_what_a_guest_wrote_into_its_raw_disk_is_no_format(bare: Path) -> None:
    task = {"path": str(bare / "disk.raw"), "format": "raw", "size": "1M"}
    four_beats(**task)
    nested = create(bare / "nested", "qcow2", "1M")
    with open(task["path"], "r+b") as stream:
        stream.write(nested.read_bytes()[:65536])
    settled(**task)


def test_a_source_is_known_again_and_one_that_changed_too(bare: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"1" * 65536)
    given = {"path": str(source), "format": "raw"}
    task = {"path": str(bare / "disk"), "format": "qcow2", "source": given, "source_policy": "if_changed"}
    four_beats(**task)
    before = sidecar(task["path"])["source"]
    source.write_bytes(b"2" * 131072)
    result = four_beats(**task)
    assert "the source file has changed" in result["actions"][0]
    assert sidecar(task["path"])["source"] != before


def test_an_overlay_knows_its_base_again(bare: Path) -> None:
    base = create(bare / "base", "qcow2", "1M")
    scribble(base, "qcow2", ((0x11, 0, 65536),))
    backing = {"path": str(base), "format": "qcow2"}
    task = {"path": str(bare / "disk"), "format": "qcow2"}
    four_beats(**task, backing=backing)
    assert sidecar(task["path"])["base"]["size"] == base.stat().st_size
    scribble(base, "qcow2", ((0x22, 0, 65536),))
    os.utime(base, (2_000_000_000, 2_000_000_000))
    refused("base_changed", **task, size="2M")
    four_beats(**task, size="2M", backing={**backing, "accept_changed": True})
    settled(**task, size="2M", backing=backing)
    other = create(bare / "other", "qcow2", "1M")
    four_beats(**task, size="2M", backing={**backing, "path": str(other)})
    shows(task["path"], "qcow2", ((0x22, 0, 65536),))
    assert sidecar(task["path"])["base"]["size"] == other.stat().st_size
    four_beats(**task, size="2M", flatten=True)
    assert "base" not in sidecar(task["path"])


def test_an_option_amended_in_place_is_remembered(bare: Path) -> None:
    task = {"path": str(bare / "disk"), "format": "qcow2", "size": "1M"}
    four_beats(**task, options={"preallocation": "metadata"})
    four_beats(**task, options={"preallocation": "metadata", "lazy_refcounts": True})
    assert sidecar(task["path"])["options"] == {"preallocation": "metadata", "lazy_refcounts": True}
    refused("exists_different", **task, options={"preallocation": "full"})


def test_another_file_in_its_place_is_not_what_is_remembered(bare: Path) -> None:
    task = {"path": str(bare / "disk"), "format": "qcow2", "size": "1M"}
    assert call("disk_image", **task, options={"preallocation": "metadata"})["changed"]
    shutil.move(create(bare / "new", "qcow2", "1M"), task["path"])
    result = call("disk_image", **task, options={"preallocation": "off"})
    assert result["unprovable_options"] == ["preallocation"]


def test_an_image_goes_with_what_is_remembered_of_it(bare: Path) -> None:
    split = {"format": "vmdk", "size": "1M", "options": {"subformat": "twoGbMaxExtentSparse"}}
    tasks = ({"path": str(bare / "disk.vmdk"), **split}, {"path": str(bare / "disk"), "format": "raw", "size": "1M"})
    for task in tasks:
        four_beats(**task)
    for task in tasks:
        four_beats(path=task["path"], state="absent")
    assert list(bare.iterdir()) == []


@pytest.mark.parametrize(("kind", "known"), [("ntfs", True), ("vfat", False)])
def test_it_is_still_known_where_files_keep_their_numbers(tmp_path: Path, kind: str, known: bool) -> None:
    """On vfat files get new inode numbers with each mount: what is remembered there is not believed any more."""
    file, directory = made(kind, tmp_path), tmp_path / "mnt"
    directory.mkdir()
    task = {"path": str(directory / "disk"), "format": "qcow2", "size": "1M"}
    with mounted(kind, file, directory):
        for name in "abc":
            create(directory / name, "raw", "1M")
        assert call("disk_image", **task, options={"preallocation": "metadata"})["changed"]
    with mounted(kind, file, directory):
        assert len({entry.stat().st_ino for entry in directory.iterdir()}) == 5
        result = call("disk_image", check=True, **task, options={"preallocation": "off"})
    assert (result.get("reason") == "exists_different") == known, result
    assert known or result["unprovable_options"] == ["preallocation"]
