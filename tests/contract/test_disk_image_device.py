"""Block devices as targets: raw is what they are, other formats only where nothing else is."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._tools import build_directory, file_system, unfinished
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.guest import KIB, MIB, check, facts, scribble, shows
from ansible_collections.platter.qemu.tests.lab.http_server import Resource, serving
from ansible_collections.platter.qemu.tests.lab.loops import HAVE_LOOPS, attached, mounted
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared, process
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img
from ansible_collections.platter.qemu.tests.lab.programs import running

pytestmark = [
    pytest.mark.skipif(not HAVE_LOOPS, reason="needs root and loop devices"),
    pytest.mark.xdist_group("loops"),
]
SIZE = 32 * MIB
OPEN = "import sys; f = open(sys.argv[1], 'r+b'); print(); sys.stdout.flush(); sys.stdin.read()"


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "disk").mkdir()
    file = create(tmp_path / "disk" / "file", "raw", SIZE)
    with attached(file) as device:
        yield device


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = create(tmp_path / "source.qcow2", "qcow2", "4M")
    scribble(path, "qcow2")
    return path


def task(device: str, format: str = "qcow2", **more: Any) -> dict[str, Any]:
    return {"path": device, "format": format, **more}


def test_a_raw_device_is_its_own_content(device: str) -> None:
    settled(**task(device, "raw"))
    settled(**task(device, "raw", size=str(SIZE)))
    subprocess.run(["mkfs.ext4", "-q", device], check=True)
    settled(**task(device, "raw"))


@pytest.mark.parametrize("size", ["16M", "64M"])
def test_the_size_of_a_device_is_not_ours_to_change(device: str, size: str) -> None:
    refused("exists_different", **task(device, "raw", size=size, allow_shrink=True))


def test_an_image_is_made_on_a_blank_device(device: str) -> None:
    four_beats(**task(device, size="1G"))
    assert facts(device, "qcow2")["virtual-size"] == 1 << 30
    scribble(device, "qcow2")
    shows(device, "qcow2")


def test_an_image_on_a_device_grows(device: str) -> None:
    four_beats(**task(device, size="4M"))
    scribble(device, "qcow2")
    four_beats(**task(device, size="8M"))
    shows(device, "qcow2")


def test_an_overlay_is_made_on_a_device(device: str, source: Path) -> None:
    given = task(device, backing={"path": str(source), "format": "qcow2"})
    four_beats(**given)
    shows(device, "qcow2")


def filesystem(device: str) -> None:
    subprocess.run(["mkfs.ext4", "-q", device], check=True)


def ext2(device: str) -> None:
    subprocess.run(["mkfs.ext2", "-q", "-F", device], check=True)


def partition_table(device: str) -> None:
    subprocess.run(["sfdisk", "-q", device], input="label: dos\n2048,8192\n", text=True, check=True)


def gpt(device: str) -> None:
    subprocess.run(["sfdisk", "-q", device], input="label: gpt\n2048,8192\n", text=True, check=True)


def swap(device: str) -> None:
    subprocess.run(["mkswap", device], check=True, capture_output=True)


def lvm(device: str) -> None:
    """A physical volume's label, as LVM2's label.h has it: in the second sector, with its type."""
    put(device, 512, b"LABELONE" + (1).to_bytes(8, "little") + bytes(8) + b"LVM2 001")


def md(device: str) -> None:
    """An md member's superblock of version 1.2, 4 KiB from the start."""
    put(device, 4096, (0xA92B4EFC).to_bytes(4, "little") + (1).to_bytes(4, "little") + bytes(248))


def luks(device: str) -> None:
    put(device, 0, b"LUKS\xba\xbe\0\2")


def bytes_in_the_middle(device: str) -> None:
    """Content that no signature tells."""
    put(device, 0, b"My first sector" * 30)


def put(device: str, offset: int, data: bytes) -> None:
    with open(device, "r+b") as stream:
        stream.seek(offset)
        stream.write(data)


CONTENTS = [filesystem, ext2, partition_table, gpt, swap, lvm, md, luks, bytes_in_the_middle]


@pytest.mark.parametrize("fill", CONTENTS, ids=lambda fill: fill.__name__)
@pytest.mark.parametrize("format", ["qcow2", "vmdk"])
def test_what_a_device_carries_is_not_overwritten(device: str, fill: Any, format: str) -> None:
    fill(device)
    result = refused("signature_present", **task(device, format, size="8M"))
    assert result["evidence"]


def test_a_large_device_is_blank_only_if_all_of_it_is(tmp_path: Path, source: Path) -> None:
    """A few bytes far from both ends, and between all samples."""
    disk = create(tmp_path / "disk", "raw", 72 * MIB + 512)
    with attached(disk) as device:
        put(device, MIB + 64 * KIB + 100, b"PRECIOUS")
        for checking in (True, False):
            result = call("disk_image", check=checking, **task(device, size="1M"))
            assert (result["reason"], result["changed"]) == ("signature_present", False)
            assert result["evidence"] == {"signature": "data of an unknown kind"}
        put(device, MIB + 64 * KIB + 100, bytes(8))
        assert call("disk_image", **task(device, "raw", source={"path": str(source), "format": "qcow2"}))["changed"]


@pytest.mark.parametrize("fill", CONTENTS, ids=lambda fill: fill.__name__)
def test_an_import_does_not_overwrite_it_either(device: str, source: Path, fill: Any) -> None:
    fill(device)
    origin = {"path": str(source), "format": "qcow2"}
    refused("signature_present", **task(device, "qcow2", source=origin))
    result = call("disk_image", **task(device, "raw", source=origin))
    assert not result["changed"]


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_an_import_onto_a_blank_device(device: str, source: Path, format: str) -> None:
    result = four_beats(**task(device, format, source={"path": str(source), "format": "qcow2"}))
    assert result["method"] == "convert"
    shows(device, format)


def test_a_source_larger_than_the_device_is_refused(device: str, tmp_path: Path) -> None:
    large = create(tmp_path / "large.qcow2", "qcow2", "64M")
    result = call("disk_image", **task(device, "raw", source={"path": str(large), "format": "qcow2"}))
    assert (result["failed"], result["changed"]) == (True, False)
    assert result["reason"] == "would_exceed_space"


def test_a_device_is_a_source(device: str, source: Path, tmp_path: Path) -> None:
    qemu_img("convert", "-n", "-O", "raw", source, device)
    path = tmp_path / "copy.qcow2"
    four_beats(path=str(path), format="qcow2", source={"path": device, "format": "raw"})
    assert facts(path, "qcow2")["virtual-size"] == SIZE
    shows(path, "qcow2")


def test_a_device_is_not_removed(device: str) -> None:
    refused("not_removable", path=device, state="absent")


def test_a_mounted_device_is_in_use(device: str, tmp_path: Path) -> None:
    four_beats(**task(device, size="4M"))
    (tmp_path / "mnt").mkdir()
    filesystem(device)
    with mounted(device, tmp_path / "mnt"):
        result = call("disk_image", **task(device, size="8M"))
        assert (result["failed"], result["changed"]) == (True, False)


def test_a_device_that_a_program_uses_is_in_use(device: str) -> None:
    prepared("disk_image", **task(device, size="4M"))
    with running(sys.executable, "-c", OPEN, device) as process:
        assert process.stdout
        process.stdout.readline()
        refused("image_in_use", **task(device, size="8M"))


def test_a_link_to_a_device_is_followed(device: str, tmp_path: Path) -> None:
    link = tmp_path / "volume"
    link.symlink_to(device)
    result = four_beats(**task(str(link), size="4M"), watch=[device])
    assert result["image"]["path"] == device


def test_options_of_an_image_on_a_device_are_found_again(device: str) -> None:
    """Devices hold no record: what the header tells is right, and what it does not is named."""
    given = task(device, size="4M", options={"cluster_size": "128K", "preallocation": "metadata"})
    four_beats(**given)
    assert call("disk_image", **given)["unprovable_options"] == ["preallocation"]


def test_an_image_on_a_device_needs_no_server_any_more(device: str, source: Path) -> None:
    given = task(device)
    with serving() as site:
        site.resources["/disk"] = Resource(source.read_bytes())
        given["source"] = {"url": site.url("/disk"), "format": "qcow2"}
        assert call("disk_image", **given)["changed"]
    settled(device, **given)


@pytest.mark.parametrize(
    "change",
    [{"repair": "all"}, {"allow_rewrite": True, "options": {"cluster_size": "32K"}}],
    ids=["repair", "rewrite"],
)
def test_a_copy_does_not_take_the_place_of_a_device(device: str, change: dict[str, Any]) -> None:
    made = call("disk_image", **task(device, size="16M"))
    assert made.get("changed"), made
    scribble(Path(device), "qcow2")
    _leak(Path(device))
    refused("is_device", **task(device, **change))
    assert Path(device).is_block_device()
    shows(Path(device), "qcow2")


def _leak(path: Path) -> None:
    """Count a cluster that nothing uses: the last entry of the first refcount block."""
    with path.open("r+b", buffering=0) as stream:
        table = int.from_bytes(stream.read(56)[48:56], "big")
        stream.seek(table)
        block = int.from_bytes(stream.read(8), "big")
        stream.seek(block + 2 * 200)
        stream.write((1).to_bytes(2, "big"))


@pytest.mark.parametrize("format", ["qcow2", "vdi"])
def test_an_import_is_grown_on_a_device_too(device: str, source: Path, format: str) -> None:
    given = {"path": str(source), "format": "qcow2"}
    four_beats(**task(device, format, size="16M", source=given))
    assert facts(device, format)["virtual-size"] == 16 * MIB
    shows(device, format)


@pytest.mark.parametrize("format", ["qcow", "qed", "vmdk", "vhdx"])
def test_formats_whose_files_grow_are_refused_on_a_device(device: str, source: Path, format: str) -> None:
    """They could be made there, all but qed, and not be written to."""
    refused("bad_option", **task(device, format, size="8M"))
    refused("bad_option", **task(device, format, source={"path": str(source), "format": "qcow2"}))


def test_an_import_is_compressed_on_a_device_too(device: str, source: Path) -> None:
    given = {"path": str(source), "format": "qcow2"}
    assert call("disk_image", **task(device, compressed=True, source=given))["changed"]
    assert check(device, "qcow2")["compressed-clusters"]
    shows(device, "qcow2")


def test_nothing_is_staged_in_the_memory_below_dev(device: str, source: Path, tmp_path: Path, instead: Any) -> None:
    log = tmp_path / "log"
    with build_directory.BuildDirectory(file_system.build_place(device)) as killed:
        killed.keep = True
    own = killed.directory.rpartition(".")[0] + ".*"  # tests beside this one have others there
    instead(f'[ "$1" = check ] && ls -ad /dev/.platter* {own} >>{log} 2>/dev/null\nexec "$real" "$@"')
    with serving() as site:
        site.resources["/disk.qcow2"] = Resource(source.read_bytes())
        result = call("disk_image", **task(device, source={"url": site.url("/disk.qcow2"), "format": "qcow2"}))
    assert result["changed"] and result["removed_leftovers"] == [killed.directory], result
    assert log.read_text().startswith("/var/tmp/.platter-tmp.") and "/dev/" not in log.read_text()
    assert not os.path.exists(log.read_text().split()[0])


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_what_a_killed_import_leaves_on_a_device_is_no_image(
    device: str, source: Path, tmp_path: Path, instead: Any, format: str
) -> None:
    """Killed by the program that it runs, when there is a part of the disk."""
    half = f'"$real" "$@"; dd if=/dev/zero of={device} bs=1M seek=1 count=31 conv=notrunc; touch {tmp_path}/killed'
    instead(
        f'[ "$1" = convert ] && [ ! -e {tmp_path}/killed ] && {{ {half}; kill -9 $PPID; exit 1; }}\nexec "$real" "$@"'
    )
    given = task(device, format, source={"path": str(source), "format": "qcow2"})
    run = process("disk_image", **given)
    run.communicate()
    assert run.returncode == -signal.SIGKILL and unfinished.is_unfinished(device)
    refused("import_unfinished", path=device, format=format)
    refused("import_unfinished", **given)
    result = four_beats(**given, source_policy="if_changed")
    assert result["actions"][0].endswith(": an import to it was begun and has not ended.")
    shows(device, format)
    assert not unfinished.is_unfinished(device)


@contextlib.contextmanager
def half_filled(device: str) -> Iterator[None]:
    """As a killed run leaves it."""
    with contextlib.suppress(KeyboardInterrupt), unfinished.filling(device):
        subprocess.run(["qemu-io", "-f", "raw", "-c", "write -q -P 119 8M 16M", device], check=True)
        raise KeyboardInterrupt
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished.note_of(device))


def test_no_end_of_a_longer_disk_stays_behind_a_shorter_one(device: str, source: Path) -> None:
    with half_filled(device):
        four_beats(**task(device, "raw", source={"path": str(source), "format": "qcow2"}, source_policy="if_changed"))
    shows(device, "raw")
    assert not any(Path(device).read_bytes()[8 * MIB :])


def test_a_half_filled_device_is_neither_source_nor_base(device: str, tmp_path: Path) -> None:
    given = {"path": str(tmp_path / "a"), "format": "qcow2"}
    with half_filled(device):
        refused("import_unfinished", **given, source={"path": device, "format": "raw"})
        refused("import_unfinished", **given, backing={"path": device, "format": "raw"})


def test_a_device_is_copied_with_holes_where_there_is_room(device: str, tmp_path: Path) -> None:
    subprocess.run(["qemu-io", "-f", "raw", "-c", "write -q -P 7 0 1M", device], check=True)
    asked = {"format": "raw", "source": {"path": device, "format": "raw"}}
    four_beats(path=str(tmp_path / "copy"), **asked)
    assert (tmp_path / "copy").stat().st_blocks * 512 <= 2 * MIB
    (tmp_path / "small").mkdir()
    with mounted("tmpfs", tmp_path / "small", "-t", "tmpfs", "-o", "size=24m"):
        result = call("disk_image", path=str(tmp_path / "small" / "copy"), **asked)
    assert (result["reason"], result["evidence"]["needed_bytes"]) == ("would_exceed_space", SIZE)


def test_the_time_of_a_device_says_nothing_of_its_content(device: str, tmp_path: Path) -> None:
    given = {"path": str(tmp_path / "a"), "format": "qcow2", "source": {"path": device, "format": "raw"}}
    assert call("disk_image", **given)["changed"]
    os.utime(device, (1, 1))
    settled(**given, source_policy="if_changed")
