"""The owner of an untrusted source changes it between our look at its header and QEMU's: nothing of that is published."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import refused
from ansible_collections.platter.qemu.tests.lab.guest import scribble, shows
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.programs import running, wait_until

OWNER = 65534
SECRET = b"what only root may read" * 4096
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="another user's files are made as root")

#: maps the file, closes it, waits for the flag, writes the other file's bytes over it, and says so
_MAPPER = """
import mmap, os, sys, time
source, other, flag = sys.argv[1:]
with open(source, "r+b") as stream: pages = mmap.mmap(stream.fileno(), 0)
os.closerange(3, 9)  # Python keeps a copy of the descriptor
data = open(other, "rb").read()
for at in range(0, len(data), 4096): pages[at] = pages[at]  # dirty: from here on no time changes
open(flag + ".ready", "w").close()
while not os.path.exists(flag): time.sleep(0.005)
pages[:len(data)] = data
open(flag + ".done", "w").close()
time.sleep(60)
"""


class Scene:
    """A user's good image, the bad one that the user would rather have read, and where the new image is to be."""

    def __init__(self, directory: Path) -> None:
        self.uploads, self.images = directory / "uploads", directory / "images"
        self.uploads.mkdir()
        self.images.mkdir()
        secret = directory / "secret"
        secret.write_bytes(SECRET)
        self.source = create(self.uploads / "disk.qcow2", "qcow2", "4M")
        scribble(self.source, "qcow2")
        self.bad = create(self.uploads / "bad.qcow2", "qcow2", "4M", "", "-b", secret, "-F", "raw")
        for path in (self.uploads, self.source, self.bad):
            os.chown(path, OWNER, OWNER)
        self.target = self.images / "new"

    def import_it(self, **more: Any) -> dict[str, Any]:
        """The result of one import as vmdk."""
        source = {"path": str(self.source), "format": "qcow2", **more}
        return call("disk_image", path=str(self.target), format="vmdk", source=source)

    def written_by(self, command: str) -> str:
        """For a shell: has the source written to in the background, and goes on when that waits for our lease, or is done."""
        asked, lease = self.target.parent.with_name("asked"), f"BREAKING.*:{self.source.stat().st_ino} "
        waits = f"[ -e {asked} ] || grep -q '{lease}' /proc/locks"
        return f"({command} {self.source}; : >{asked}) >/dev/null 2>&1 & until {waits}; do sleep 0.01; done;"

    def nothing_came_of_it(self, result: dict[str, Any]) -> None:
        """A refusal before anything was published, with the facts."""
        assert (result["failed"], result["changed"], result.get("reason")) == (True, False, "source_changed"), result
        assert result["msg"].startswith(f"refused: the import of {self.source} to ") and "/proc/" not in result["msg"]
        assert set(result["evidence"]) == {"before", "now"}
        assert not list(self.images.iterdir())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_source_that_is_swapped_behind_the_gate_is_not_read(scene: Scene, instead: Any) -> None:
    instead(f'[ "$1" = check ] && mv {scene.bad} {scene.source} 2>/dev/null\nexec "$real" "$@"')
    scene.nothing_came_of_it(scene.import_it())


def test_a_directory_that_is_swapped_behind_the_gate_is_not_entered(scene: Scene, instead: Any) -> None:
    """The file itself stays as it is: no time of it tells."""
    real, name = scene.uploads.with_name("real"), scene.uploads
    scene.uploads.rename(real)
    evil = scene.uploads.with_name("evil")
    evil.mkdir()
    shutil.copy(real / "bad.qcow2", evil / "disk.qcow2")
    name.symlink_to(real)
    instead(f'[ "$1" = check ] && ln -sfn {evil} {name}\nexec "$real" "$@"')
    result = scene.import_it()
    assert not result.get("failed"), result
    shows(scene.target, "vmdk")


def test_a_source_that_is_rewritten_behind_the_gate_is_not_published(scene: Scene, instead: Any) -> None:
    instead(f'[ "$1" = check ] && {{ {scene.written_by(f"cat {scene.bad} >")} }}\nexec "$real" "$@"')
    scene.nothing_came_of_it(scene.import_it())
    wait_until(lambda: scene.source.read_bytes() == scene.bad.read_bytes(), "the writer goes on afterwards")


def test_a_source_that_is_rewritten_in_memory_is_copied_first(scene: Scene, tmp_path: Path, instead: Any) -> None:
    """A mapping needs no open file, and writing to it changes no time: only a copy is safe from it."""
    flag = tmp_path / "flag"
    instead(f'[ "$1" = check ] && {{ : >{flag}; while [ ! -e {flag}.done ]; do sleep 0.01; done; }}\nexec "$real" "$@"')
    with running(sys.executable, "-c", _MAPPER, scene.source, scene.bad, flag):
        wait_until(Path(f"{flag}.ready").exists, "the file is mapped")
        result = scene.import_it()
    assert Path(f"{flag}.done").exists(), result
    if result.get("failed"):
        scene.nothing_came_of_it(result)
    else:
        shows(scene.target, "vmdk")
    assert b"/secret" in scene.source.read_bytes()[:4096], "the attack itself"


def test_a_writer_that_waits_for_the_import_is_let_go(scene: Scene, instead: Any) -> None:
    """The lease ends with the run, and its signal does not end the run."""
    instead(f'[ "$1" = check ] && {{ {scene.written_by(": >>")} }}\nexec "$real" "$@"')
    started = time.monotonic()
    scene.nothing_came_of_it(scene.import_it())
    subprocess.run(["sh", "-c", f": >> {scene.source}"], check=True, timeout=60)
    assert time.monotonic() - started < 40, "the kernel ends a lease after 45 s"


@pytest.mark.parametrize("where", ["file", "directory"])
def test_a_link_of_a_user_leads_to_that_users_files_only(scene: Scene, tmp_path: Path, where: str) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    (hidden / "disk.raw").write_bytes(SECRET)
    link = scene.uploads / ("disk.raw" if where == "file" else "there")
    link.symlink_to(hidden / "disk.raw" if where == "file" else hidden)
    os.chown(link, OWNER, OWNER, follow_symlinks=False)
    path = link if where == "file" else link / "disk.raw"
    result = refused(
        "unsafe_directory",
        path=str(scene.target),
        format="qcow2",
        source={"path": str(path), "format": "raw"},
    )
    assert result["evidence"] == {"owner": OWNER}
    os.chown(hidden / "disk.raw", OWNER, OWNER)
    assert call("disk_image", path=str(scene.target), format="qcow2", source={"path": str(path), "format": "raw"})[
        "changed"
    ]
