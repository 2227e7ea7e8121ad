"""The checkout as an ansible_collections tree: as a link (to run it) and as a copy (for ansible-test)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from paths import BUILD, COLLECTION, ROOT

# ansible-test would fetch its pip installer from a host of its own; it takes this file instead when it is there.
GET_PIP = """import subprocess, sys
subprocess.check_call([sys.executable, "-m", "ensurepip"], stdout=subprocess.DEVNULL)
subprocess.check_call([sys.executable, "-m", "pip", "install", "--quiet", "pip=={version}"])
"""
PIP_VERSIONS = ("24.2", "25.2")  # of ansible-core 2.19, and of 2.20 and 2.21


def link_checkout() -> Path:
    """A directory for ANSIBLE_COLLECTIONS_PATH in which platter.qemu is the checkout itself."""
    tree = BUILD / "collections"
    link = tree / COLLECTION
    link.parent.mkdir(parents=True, exist_ok=True)
    if not (link.is_symlink() and link.resolve() == ROOT):
        link.unlink(missing_ok=True)
        link.symlink_to(ROOT, target_is_directory=True)
    return tree


def _git(*words: str, cwd: Path) -> bytes:
    return subprocess.run(["git", *words], cwd=cwd, check=True, capture_output=True, stdin=subprocess.DEVNULL).stdout


def copy_checkout(tree: Path) -> Path:
    """A fresh copy of all files that are tracked or could be, in a git of its own. ansible-test follows no links."""
    target = tree / COLLECTION
    shutil.rmtree(target, ignore_errors=True)
    for name in _git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).decode().split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)
    _git("init", "--quiet", cwd=target)
    _git("add", "--all", cwd=target)
    return target


def make_home(home: Path) -> Path:
    """An empty home directory, so that nothing in the user's own changes or influences a test."""
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for version in PIP_VERSIONS:
        (cache / f"get_pip_{version.replace('.', '_')}.py").write_text(GET_PIP.format(version=version))
    return home
