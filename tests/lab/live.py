"""What the files of a VM hold once it has ended."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.platter.qemu.tests.lab.guest import KIB, MIB, shows
from ansible_collections.platter.qemu.tests.lab.oracle import qemu_img


def holds(path: object, *patterns: tuple[int, int]) -> None:
    """What nobody has open: by qemu-io, 64 KiB of each (byte, offset in MiB)."""
    shows(path, "qcow2", tuple((byte, offset * MIB, 64 * KIB) for byte, offset in patterns))


def sound(path: object) -> None:
    """qemu-img check has nothing to say of a file that nobody has open."""
    qemu_img("check", "-q", "-f", "qcow2", str(path))


def names(directory: Path) -> set[str]:
    """The files of a directory, sockets left out."""
    return {each.name for each in directory.iterdir() if each.is_file() or each.is_symlink()}
