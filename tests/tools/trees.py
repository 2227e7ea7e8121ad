"""The checkout as an ansible_collections tree: as a link (to run it) and as a copy (for ansible-test)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from paths import BUILD, COLLECTION, ROOT

# ansible-test would fetch its pip installer from a host of its own; it takes this file instead when it is there. It makes
# twenty environments with pip in each: that is copied, with its bytecode, from the first that had it installed.
GET_PIP = """import compileall, os, shutil, subprocess, sys, sysconfig
kept, site = {kept!r}, sysconfig.get_path("purelib")
if not os.path.isdir(kept):
    subprocess.check_call([sys.executable, "-m", "ensurepip"], stdout=subprocess.DEVNULL)
    fresh = kept + ".%d" % os.getpid()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", fresh, "pip=={version}"]
    subprocess.check_call([*pip, "--disable-pip-version-check"])
    subprocess.check_call([sys.executable, "-m", "pip", "uninstall", "--quiet", "--yes", "pip"])
    shutil.rmtree(os.path.join(fresh, "bin"))
    try:
        os.rename(fresh, kept)
    except OSError:  # another was faster
        shutil.rmtree(fresh)
compileall.compile_dir(kept, quiet=1)
others = lambda _path, names: [name for name in names if name.endswith(".pyc") and sys.implementation.cache_tag not in name]
shutil.copytree(kept, site, ignore=others, dirs_exist_ok=True)
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
        installer = GET_PIP.format(version=version, kept=str(BUILD / f"pip-{version}"))
        script = cache / f"get_pip_{version.replace('.', '_')}.py"
        if not script.exists() or script.read_text() != installer:  # another step may be reading it
            script.write_text(installer)
    return home
