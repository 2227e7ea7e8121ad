"""What our own reader sees is what blkid sees, on what the real programs make; and where it ends is where it ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
import zlib
from pathlib import Path
from typing import Callable

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._inspect.signatures import (
    Signature,
    end_of_data,
    first_signature,
    signatures,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools.files import FileReader
from ansible_collections.platter.qemu.tests.lab import superblocks
from ansible_collections.platter.qemu.tests.lab.oracle import qemu_img

MIB = 1 << 20
PATH = os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/sbin"))
ARRAY = uuid.UUID("12345678-9abc-def0-1234-56789abcdef0")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(400 * MIB)
    return path


def run(*command: object, stdin: str = "") -> str:
    program = shutil.which(str(command[0]), path=PATH)
    if program is None:
        pytest.skip(f"{command[0]} is not installed")
    argv = [program, *(str(part) for part in command[1:])]
    done = subprocess.run(argv, input=stdin, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def seen(path: Path) -> list[Signature]:
    with FileReader(str(path)) as source:
        return signatures(source)


def end(path: Path) -> int | None:
    with FileReader(str(path)) as source:
        return end_of_data(source)


def blkid(path: Path) -> tuple[str, str, str]:
    lines = run("blkid", "-p", "-o", "export", path).splitlines()
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    label = found.get("LABEL", "").replace("\\ ", " ")
    uuid_ = found.get("UUID", found.get("PTUUID", ""))
    return found.get("TYPE", found.get("PTTYPE", "")), uuid_, label


def write(path: Path, *pieces: tuple[int, bytes]) -> None:
    with path.open("r+b") as file:
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)


def luks_by_qemu(disk: Path) -> None:
    options = ("--object", f"secret,id=s,file={secret(disk)}", "-o", "key-secret=s,iter-time=10")
    qemu_img("create", "-q", "-f", "luks", *options, disk, "390M")


Maker = Callable[[Path], object]
#: name -> how it is made, and the type
MADE: dict[str, tuple[Maker, str]] = {
    "ext2": (lambda disk: run("mkfs.ext2", "-q", "-F", "-L", "name", disk), "ext2"),
    "ext3": (lambda disk: run("mkfs.ext3", "-q", "-F", disk), "ext3"),
    "ext4": (lambda disk: run("mkfs.ext4", "-q", "-F", "-L", "a name", disk), "ext4"),
    "ext4 of 1 KiB blocks": (lambda disk: run("mkfs.ext4", "-q", "-F", "-b", "1024", "-O", "^64bit", disk), "ext4"),
    "journal": (lambda disk: run("mke2fs", "-q", "-F", "-O", "journal_dev", disk), "jbd"),
    "xfs": (lambda disk: run("mkfs.xfs", "-q", "-L", "name", disk), "xfs"),
    "btrfs": (lambda disk: run("mkfs.btrfs", "-q", "-L", "a name", disk), "btrfs"),
    "swap": (lambda disk: run("mkswap", "-q", "-L", "name", disk), "swap"),
    "swap of 64 KiB pages": (lambda disk: run("mkswap", "-q", "-p", "65536", disk), "swap"),
    "vfat 16": (lambda disk: run("mkfs.vfat", "-F", "16", "-n", "NAME", disk), "vfat"),
    "vfat 32": (lambda disk: run("mkfs.vfat", "-F", "32", disk), "vfat"),
    "ntfs": (lambda disk: run("mkfs.ntfs", "-q", "-F", "-f", disk), "ntfs"),
    "exfat": (lambda disk: run("mkfs.exfat", disk), "exfat"),
    "lvm": (lambda disk: write(disk, superblocks.lvm(400 * MIB, "0123456789abcdefghijklmnopqrstuv")), "LVM2_member"),
    "luks1 by qemu": (luks_by_qemu, "crypto_LUKS"),
    "luks2": (
        lambda disk: run(
            *("cryptsetup", "-q", "--type", "luks2", "--label", "name", "--pbkdf", "pbkdf2"),
            *("--pbkdf-force-iterations", "1000", "--key-file", secret(disk), "luksFormat", disk),
        ),
        "crypto_LUKS",
    ),
    "mbr": (lambda disk: run("sfdisk", "-q", disk, stdin="label: dos\n2048,20480\n"), "dos"),
    "gpt": (lambda disk: run("sfdisk", "-q", disk, stdin="label: gpt\n2048,20480\n"), "gpt"),
    "iso9660": (lambda disk: write(disk, superblocks.iso9660("A NAME", 1000)), "iso9660"),
    "bcache": (lambda disk: write(disk, superblocks.bcache(ARRAY)), "bcache"),
    "zfs": (lambda disk: write(disk, *superblocks.zfs("tank", 1234567890)), "zfs_member"),
    **{
        f"md 1.{minor}": (
            lambda disk, minor=minor: write(disk, superblocks.md_1(400 * MIB, minor, ARRAY, "host:0")),  # type: ignore[misc]
            "linux_raid_member",
        )
        for minor in (0, 1, 2)
    },
    "md 0.90": (lambda disk: write(disk, superblocks.md_0_90(400 * MIB, (1, 2, 3, 0xABCD))), "linux_raid_member"),
}


def secret(disk: Path) -> Path:
    path = disk.with_name("secret")
    path.write_text("not so secret")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("name", MADE)
def test_what_is_made_is_seen_as_blkid_sees_it(disk: Path, name: str) -> None:
    make, kind = MADE[name]
    make(disk)
    (found,) = seen(disk)
    expected = blkid(disk)
    assert found.type == kind == expected[0]
    assert found.uuid == expected[1] or kind == "iso9660"  # its UUID is a date, which is not read
    assert found.label == expected[2] or kind == "ntfs"  # a file inside


@pytest.mark.parametrize("minor", [0, 1, 2])
def test_mdadm_knows_the_superblocks_of_these_tests(disk: Path, minor: int) -> None:
    write(disk, superblocks.md_1(400 * MIB, minor, ARRAY, "host:0"))
    text = run("mdadm", "--examine", disk)
    assert f"Version : 1.{minor}" in text
    assert "12345678:9abcdef0:12345678:9abcdef0" in text
    assert "correct" in text.split("Checksum", 1)[1].splitlines()[0]


def test_mdadm_knows_the_old_superblock_of_these_tests(disk: Path) -> None:
    write(disk, superblocks.md_0_90(400 * MIB, (1, 2, 3, 0xABCD)))
    text = run("mdadm", "--examine", disk)
    assert "Version : 0.90.00" in text and "00000001:00000002:00000003:0000abcd" in text
    assert "correct" in text.split("Checksum", 1)[1].splitlines()[0]


def test_an_md_member_on_a_disk_of_odd_length_is_seen(disk: Path) -> None:
    length = 400 * MIB + 5 * 512
    os.truncate(disk, length)
    write(disk, superblocks.md_1(length, 0, ARRAY, "host:0"))
    assert [(found.type, found.uuid) for found in seen(disk)] == [blkid(disk)[:2]]


def test_an_md_member_of_the_other_byte_order_is_seen(disk: Path) -> None:
    write(disk, superblocks.md_0_90(400 * MIB, (1, 2, 3, 4), ">"))
    assert [str(found) for found in seen(disk)] == ["linux_raid_member UUID 00000001-0000-0002-0000-000300000004"]


@pytest.mark.parametrize("length", [0, 1, 511, 512, 4096, 66_000, 200_000])
def test_nothing_is_seen_where_nothing_is(tmp_path: Path, length: int) -> None:
    path = tmp_path / "disk"
    for content in (bytes(length), b"\xff" * length, os.urandom(length)):
        path.write_bytes(content)
        assert (seen(path), end(path), first_signature(str(path))) == ([], None, None)


@pytest.mark.parametrize("name", ["ext4", "ext4 of 1 KiB blocks", "xfs", "btrfs", "swap", "swap of 64 KiB pages"])
def test_a_file_system_that_fills_the_disk_ends_there(disk: Path, name: str) -> None:
    MADE[name][0](disk)
    assert 399 * MIB <= (end(disk) or 0) <= 400 * MIB


@pytest.mark.parametrize("name", ["vfat 16", "vfat 32", "ntfs", "exfat"])
def test_a_foreign_file_system_that_fills_the_disk_ends_there(disk: Path, name: str) -> None:
    MADE[name][0](disk)
    assert 399 * MIB <= (end(disk) or 0) <= 400 * MIB


@pytest.mark.parametrize("name", ["lvm", "luks1 by qemu", "md 1.0", "md 1.2", "bcache", "zfs"])
def test_what_holds_other_things_ends_with_the_disk(disk: Path, name: str) -> None:
    MADE[name][0](disk)
    assert end(disk) == disk.stat().st_size


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (("mkfs.ext4", "-q", "-F", "{}", "100M"), 100 * MIB),
        (("mkfs.xfs", "-q", "-d", "size=350m", "{}"), 350 * MIB),
        (("mkfs.btrfs", "-q", "-b", "200M", "{}"), 200 * MIB),
    ],
)
def test_a_smaller_file_system_ends_before_the_disk(disk: Path, make: tuple[str, ...], expected: int) -> None:
    run(*(part.format(disk) for part in make))
    assert end(disk) == expected


def test_an_ext4_of_more_than_16_tib_ends_there(disk: Path) -> None:
    run("mkfs.ext4", "-q", "-F", "-O", "64bit", disk)
    before = end(disk) or 0
    write(disk, (1024 + 336, b"\1"))
    block = 1024 << int.from_bytes(disk.read_bytes()[1048:1052], "little")
    assert end(disk) == before + (block << 32)


def test_the_code_in_a_boot_sector_is_no_partition_table(disk: Path) -> None:
    for at, name in ((54, b"FAT16   "), (82, b"FAT32   "), (3, b"NTFS    ")):
        sector = bytearray(512)
        sector[at : at + 8], sector[440:444], sector[510:] = name, b"code", b"\x55\xaa"
        write(disk, (0, bytes(sector)))
        assert [found.type for found in seen(disk)] == ["ntfs" if at == 3 else "vfat"]


TABLES = {
    "label: dos\n2048,20480\n": (2048 + 20480) * 512,
    "label: gpt\n2048,20480\n": (2048 + 20480) * 512,
    "label: gpt\n2048,2048\n409600,8192\n8192,2048\n": (409600 + 8192) * 512,
    "label: dos\n2048,2048\n4096,204800,E\n6144,2048\n10240,2048\n": (4096 + 204800) * 512,
    "label: gpt\n": (2 + 32) * 512,
}


@pytest.mark.parametrize("script", TABLES)
def test_a_partitioned_disk_ends_behind_its_last_partition(disk: Path, script: str) -> None:
    run("sfdisk", "-q", disk, stdin=script)
    assert end(disk) == TABLES[script]


def test_parted_agrees_on_the_end(disk: Path) -> None:
    layout = ("mklabel", "gpt", "mkpart", "a", "1MiB", "9MiB", "mkpart", "b", "20MiB", "33MiB")
    run("parted", "-s", disk, *layout)
    rows = [line.split(":") for line in run("parted", "-sm", disk, "unit", "B", "print").splitlines()]
    assert end(disk) == max(int(row[2][:-1]) for row in rows if row[0].isdigit()) + 1


def test_the_copy_of_a_wiped_gpt_is_found(disk: Path) -> None:
    run("sfdisk", "-q", disk, stdin="label: gpt\n2048,20480\n")
    before = seen(disk)
    write(disk, (0, bytes(34 * 512)))
    (found,) = seen(disk)
    assert (found.type, found.uuid, found.end) == ("gpt", before[0].uuid, (2048 + 20480) * 512)


def test_a_gpt_with_a_wrong_checksum_is_only_its_protective_mbr(disk: Path) -> None:
    run("sfdisk", "-q", disk, stdin="label: gpt\n2048,20480\n")
    for offset in (512, disk.stat().st_size - 512):
        write(disk, (offset + 40, b"\1"))
    assert [found.type for found in seen(disk)] == ["dos"]


def test_a_disk_can_carry_several_things(disk: Path) -> None:
    run("mkfs.ext4", "-q", "-F", disk)
    write(disk, superblocks.md_1(400 * MIB, 0, ARRAY, "host:0"))
    assert [found.type for found in seen(disk)] == ["linux_raid_member", "ext4"]
    assert first_signature(str(disk)) == f'linux_raid_member "host:0" UUID {ARRAY}'


def test_the_tables_of_hostile_disks_are_not_followed_far(disk: Path) -> None:
    run("sfdisk", "-q", disk, stdin="label: gpt\n2048,20480\n")
    header = bytearray(disk.read_bytes()[512:1024])
    header[80:88] = b"\xff\xff\xff\x7f\x80\0\0\0"  # 2^31 entries
    header[16:20] = bytes(4)
    header[16:20] = zlib.crc32(header[:92]).to_bytes(4, "little")
    write(disk, (512, bytes(header)))
    assert end(disk) == disk.stat().st_size
