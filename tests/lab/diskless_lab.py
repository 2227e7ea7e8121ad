"""What the scenario diskless of extensions/molecule has its VMs boot, and what serves it.

diskless_lab.py DIRECTORY TREES   writes DIRECTORY/root.tar.gz, a root tree, and DIRECTORY/host.tar.gz: that one again,
                                  the two legs of an array with the same tree on it, and the configuration of an NFS
                                  server (ganesha) of what is in TREES
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(__file__, *[".."] * 6)))

from ansible_collections.platter.qemu.tests.lab import diskless
from ansible_collections.platter.qemu.tests.lab.initramfs import SCRIPTS

#: where a root tree has the scripts of C(in_guest)
SCRIPTS_OF_A_TREE = {
    "diskless_init.sh": "sbin/init",
    "diskless_note.sh": "note.sh",
    "diskless_power.sh": "etc/acpi/PWRF/00000080",
}
#: of the NFS server, on its host
RECOVERY = Path("/run/ganesha")
LEG = 32 * diskless.MIB


def write(directory: Path, trees: Path) -> None:
    """Both archives."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as work:
        tree, host = Path(work, "tree"), Path(work, "host")
        host.mkdir()
        _plant(tree)
        _pack(tree, directory / "root.tar.gz")
        shutil.copy(directory / "root.tar.gz", host)
        diskless.legs(host, tree, LEG)
        (host / "ganesha.conf").write_text(diskless.ganesha_conf(RECOVERY, trees, "/roots"))
        _pack(host, directory / "host.tar.gz")


def _plant(tree: Path) -> None:
    diskless.plant(tree, ("mdadm",))
    for name, inside in SCRIPTS_OF_A_TREE.items():
        (tree / inside).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SCRIPTS / name, tree / inside)
        (tree / inside).chmod(0o755)


def _pack(directory: Path, archive: Path) -> None:
    """With the holes that files have."""
    packed = [
        "tar",
        "--create",
        "--gzip",
        "--sparse",
        "--owner=0",
        "--group=0",
        "--file",
        archive,
        "-C",
        directory,
        ".",
    ]
    subprocess.run(packed, check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    write(*map(Path, sys.argv[1:]))
