"""Finds the Pythons of this machine, and which ansible-core is run on which of them."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

# ansible-core: the Pythons its controller supports, the one we prefer first. Newest core first.
CORES = {
    "2.21": ("3.13", "3.12", "3.14"),
    "2.19": ("3.11", "3.12", "3.13"),
}
NAMES = ["python3", *(f"python3.{minor}" for minor in range(8, 16))]
NEEDED = (
    "No Python here can run ansible-core: it takes python3 3.11 or newer, with its venv and ensurepip modules. "
    "Debian, Ubuntu: apt-get install -y python3 python3-venv. Fedora: dnf install -y python3."
)
PROBE = """import ensurepip, json, sys, venv
print(json.dumps(["%d.%d" % sys.version_info[:2], sys.base_prefix, sys.executable]))"""


def probe(executable: str) -> tuple[str, str] | None:
    """Version and real path of a Python that can make venvs; None for anything else."""
    done = subprocess.run(
        [executable, "-c", PROBE], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        return None
    version, prefix, path = json.loads(done.stdout)
    base = Path(prefix) / "bin" / f"python{version}"
    return version, str(base if base.exists() else path)


def _pyenv_roots() -> list[Path]:
    """Where pyenv keeps Pythons: its shims may be on PATH under another HOME."""
    shims = [Path(name) for name in os.environ.get("PATH", "").split(os.pathsep) if name.endswith("/shims")]
    return sorted({Path.home() / ".pyenv", *(path.parent for path in shims)})


@functools.lru_cache(maxsize=None)
def installed() -> dict[str, str]:
    """Every usable Python: version -> executable. The first found of a version wins."""
    on_path = [shutil.which(name) for name in NAMES]
    of_pyenv = sorted(path for root in _pyenv_roots() for path in root.glob("versions/*/bin/python3.*[0-9]"))
    found: dict[str, str] = {}
    for executable in [sys.executable, *on_path, *map(str, of_pyenv)]:
        result = probe(executable) if executable else None
        if result:
            found.setdefault(*result)
    return found


def matrix() -> list[tuple[str, str]]:
    """(core, Python version) pairs to test with, newest core first."""
    pairs = []
    for core, versions in CORES.items():
        version = next((v for v in versions if v in installed()), None)
        if version:
            pairs.append((core, version))
    if not pairs:
        raise SystemExit(NEEDED)
    return pairs


def link_pythons(directory: Path) -> Path:
    """A directory of pythonX.Y links, so that ansible-test finds these Pythons and no others."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for version, executable in installed().items():
        (directory / f"python{version}").symlink_to(executable)
    return directory
