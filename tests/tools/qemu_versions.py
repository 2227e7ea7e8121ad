"""Other QEMUs than this machine's, unpacked from Debian's packages under .build/qemu: nothing is installed.

Their programs run on this machine's kernel with their own loader and libraries, and see this machine's files.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

from paths import BUILD

# Debian's suite: the QEMU it had when this was written
SUITES = {"trixie": "10.0", "sid": "11.1"}
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PACKAGES = ("qemu-utils", "qemu-block-extra", "qemu-system-x86", "qemu-system-common")
PROGRAMS = ("qemu-img", "qemu-io", "qemu-nbd", "qemu-storage-daemon", "qemu-system-x86_64")
LIBRARIES = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib")
LOADER = "usr/lib64/ld-linux-x86-64.so.2"


def programs_of(suite: str) -> Path:
    """A directory for PATH with this suite's QEMU; fetched once."""
    place = BUILD / "qemu" / suite
    if not (place / "ready").exists():
        _unpack(_fetch(suite, place / "apt"), place / "root")
        (place / "bin").mkdir(exist_ok=True)
        for name in PROGRAMS:
            _write_wrapper(place / "root", name, place / "bin" / name)
        (place / "ready").touch()
    return place / "bin"


def _mirror() -> str:
    """Where this machine has its packages from, the first that has a whole Debian."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Component: main"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return next(address for address in told if "security" not in address)


def _fetch(suite: str, state: Path) -> list[Path]:
    """The packages and all that they need, as if nothing were installed: apt with a state of its own."""
    for name in ("lists/partial", "archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    (state / "parts").mkdir(exist_ok=True)
    (state / "status").write_text("")
    (state / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {suite} main\n")
    settings = {
        "Dir::State": state,
        "Dir::State::status": state / "status",
        "Dir::Cache": state,
        "Dir::Etc::sourcelist": state / "sources.list",
        "Dir::Etc::sourceparts": state / "parts",
        "Dir::Etc::preferencesparts": state / "parts",
        "APT::Architecture": "amd64",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
    }
    apt = ["apt-get", "-q", "-y", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]
    for words in (["update"], ["install", "--download-only", *PACKAGES]):
        subprocess.run([*apt, *words], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return sorted((state / "archives").glob("*.deb"))


def _unpack(packages: list[Path], root: Path) -> None:
    # in Debian since trixie these are links to the directories below usr; packages unpack through them
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    for package in packages:
        subprocess.run(["dpkg-deb", "--extract", package, root], check=True)
        package.unlink()


def _write_wrapper(root: Path, name: str, wrapper: Path) -> None:
    """The program by its own loader: it looks for libraries nowhere else, and for QEMU's modules and firmware there."""
    # a process is known by the file that runs, which is the loader: it gets the program's name
    loader = root / "loaders" / name
    loader.parent.mkdir(exist_ok=True)
    shutil.copy(root / LOADER, loader)
    libraries = ":".join(str(root / directory) for directory in LIBRARIES)
    command = [loader, "--library-path", libraries, "--argv0", name, root / "usr/bin" / name]
    if name.startswith("qemu-system"):
        command += ["-L", root / "usr/share/qemu", "-L", root / "usr/share/seabios"]
    modules = root / "usr/lib/x86_64-linux-gnu/qemu"
    line = shlex.join(str(word) for word in command)
    wrapper.write_text(f'#!/bin/sh\nQEMU_MODULE_DIR={shlex.quote(str(modules))} exec {line} "$@"\n')
    wrapper.chmod(0o755)
