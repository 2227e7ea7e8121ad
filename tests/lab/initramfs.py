"""The guest's root file system: busybox, modules, QEMU's own guest agent, Python, and the programs of C(in_guest)."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab.cpio import Archive
from ansible_collections.platter.qemu.tests.lab.linux import modules

MODULES = ("virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "virtio_console", "crc32c_generic", "ext4")
PROGRAMS = ("qemu-ga", "mke2fs")
SCRIPTS = Path(__file__).parent / "in_guest"
_ALSO_IN = ":/usr/sbin:/sbin"
#: prints the files of all that the guest's programs import
_IMPORTED = """
import __future__, mmap, os, sys, time
print(*filter(None, (getattr(module, "__file__", None) for module in sys.modules.values())), sep="\\n")
"""


@functools.lru_cache(maxsize=None)
def initramfs() -> bytes:
    """Made once for all guests of a run."""
    archive = Archive()
    for name in ("proc", "sys", "dev", "run", "tmp", "etc", "mnt", "bin", "sbin"):
        archive.directory(name)
    archive.link("/var/run", "/run")
    archive.file("/init", (SCRIPTS / "init.sh").read_bytes())
    _add_program(archive, "busybox", "/bin/busybox")
    archive.link("/bin/sh", "busybox")
    for name in PROGRAMS:
        _add_program(archive, name, f"/sbin/{name}")
    _add_python(archive)
    _add_modules(archive)
    return archive.content()


def _add_program(archive: Archive, name: str, inside: str) -> None:
    found = shutil.which(name) or shutil.which(name, path=_ALSO_IN)
    if not found:
        pytest.fail(f"{name} is not installed")
    _add_executable(archive, Path(found), inside)


def _add_executable(archive: Archive, path: Path, inside: str) -> None:
    """With the libraries it is linked with, under the names its loader looks for."""
    archive.file(inside, path.read_bytes())
    told = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False).stdout
    for library in re.findall(r"(/\S+) \(0x", told):
        archive.file(library, Path(library).read_bytes())


def _add_python(archive: Archive) -> None:
    """The system's Python where there is one, which is small, and of its library what the programs import."""
    interpreter = Path(shutil.which("python3", path="/usr/bin") or sys.executable).resolve()
    _add_executable(archive, interpreter, str(interpreter))
    archive.link("/bin/python3", str(interpreter))
    told = subprocess.run([interpreter, "-I", "-S", "-c", _IMPORTED], capture_output=True, text=True, check=True)
    for name in told.stdout.split():
        archive.file(name, Path(name).read_bytes())
    for script in SCRIPTS.glob("*.py"):
        archive.file(f"/{script.name}", script.read_bytes())


def _add_modules(archive: Archive) -> None:
    found = modules(MODULES)
    archive.file("/modules/order", "".join(f"{name}\n" for name in found).encode())
    for name, content in found.items():
        archive.file(f"/modules/{name}", content)
