"""The guest's root file system: busybox, modules, QEMU's own guest agent, Python, and the programs of C(in_guest)."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab.cpio import Archive
from ansible_collections.platter.qemu.tests.lab.linux import modules

MODULES = ("virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "sr_mod", "virtio_console", "crc32c_generic", "ext4")
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
    return basis().content()


def basis(more_modules: tuple[str, ...] = ()) -> Archive:
    """What every guest has; more can be added to it. C(more_modules): of the kernel."""
    archive = Archive()
    for name in ("proc", "sys", "dev", "run", "tmp", "etc", "mnt", "bin", "sbin"):
        archive.directory(name)
    archive.link("/var/run", "/run")
    archive.file("/init", (SCRIPTS / "init.sh").read_bytes())
    archive.file("/shell.sh", (SCRIPTS / "shell.sh").read_bytes())
    add_program(archive, "busybox", "/bin/busybox")
    archive.link("/bin/sh", "busybox")
    for name in PROGRAMS:
        add_program(archive, name, f"/sbin/{name}")
    add_python(archive, _IMPORTED)
    archive.link("/bin/python3", str(interpreter()))
    for script in SCRIPTS.glob("*.py"):
        archive.file(f"/{script.name}", script.read_bytes())
    _add_modules(archive, (*MODULES, *more_modules))
    return archive


def add_program(archive: Archive, name: str, inside: str) -> None:
    """A program of this machine, by its name here."""
    found = shutil.which(name) or shutil.which(name, path=_ALSO_IN)
    if not found:
        pytest.fail(f"{name} is not installed")
    add_executable(archive, Path(found), inside)


def add_executable(archive: Archive, path: Path, inside: str) -> None:
    """With the libraries it is linked with, under the names its loader looks for."""
    archive.file(inside, path.read_bytes())
    told = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False).stdout
    for library in re.findall(r"(/\S+) \(0x", told):
        archive.file(library, Path(library).read_bytes())


def interpreter() -> Path:
    """The system's Python where there is one, which is small."""
    return Path(shutil.which("python3", path="/usr/bin") or sys.executable).resolve()


def add_python(archive: Archive, code: str) -> None:
    """Python, and of its library what C(code) prints, which runs here: names of files."""
    add_executable(archive, interpreter(), str(interpreter()))
    told = subprocess.run([interpreter(), "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    sources = [Path(name) for name in told.stdout.split()]
    for path in sources:
        add_executable(archive, path, str(path)) if path.suffix == ".so" else archive.file(str(path), path.read_bytes())
    for path, compiled in _compiled([path for path in sources if path.suffix == ".py"]).items():
        archive.file(path, compiled)


#: compiles each file that it is told of, into a directory: those are believed without a look at the source
_COMPILE = """
import os, py_compile, sys
from importlib.util import cache_from_source
for number, name in enumerate(sys.stdin.read().split()):
    made = os.path.join(sys.argv[1], str(number))
    py_compile.compile(name, made, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH, doraise=True)
    print(cache_from_source(name))
"""


def _compiled(sources: list[Path]) -> dict[str, bytes]:
    """What Python would make of them at their first import, which takes minutes in a guest, by its path."""
    with tempfile.TemporaryDirectory() as directory:
        argv = [interpreter(), "-I", "-S", "-c", _COMPILE, directory]
        names = "\n".join(map(str, sources))
        told = subprocess.run(argv, input=names, stdout=subprocess.PIPE, text=True, check=True)
        return {name: Path(directory, str(number)).read_bytes() for number, name in enumerate(told.stdout.split())}


def _add_modules(archive: Archive, names: tuple[str, ...]) -> None:
    found = modules(names)
    archive.file("/modules/order", "".join(f"{name}\n" for name in found).encode())
    for name, content in found.items():
        archive.file(f"/modules/{name}", content)
