"""What a task replaces or removes is kept, where a file cannot have a second name too."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import digest
from ansible_collections.platter.qemu.tests.lab.modules import process
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE

#: strace(1): as a file system without hard links answers (vfat, some of FUSE)
INJECT = ("-e", "trace=link,linkat", "-e", "inject=link,linkat:error=EPERM")
WITHOUT_LINKS = ["strace", "-f", "--seccomp-bpf", "-qq", *INJECT]


@pytest.mark.parametrize("removed", [True, False])
def test_what_goes_can_be_kept_without_second_names(tmp_path: Path, removed: bool) -> None:
    """A copy then: as sparse as the image, with its owner, mode and time, whole before it has its name."""
    image = tmp_path / "user" / "image"
    image.parent.mkdir()
    sparse(create(image, "raw", "64M"))
    os.utime(image, ns=(0, 10**18))
    image.chmod(0o640)
    for path in (image, image.parent):
        os.chown(path, 1234, 1234)
    seen, before = image.stat(), digest(image)
    source = create(tmp_path / "new", "raw", "1M")
    anew = {"format": "raw", "source": {"path": str(source), "format": "raw"}, "source_policy": "if_changed"}
    os.setxattr(image, "user.platter.qemu", b'{"format": "raw", "source": {"size": 1}}')
    more = {"state": "absent"} if removed else anew
    log = ["-o", str(tmp_path / "log")]
    with process("disk_image", under=[*WITHOUT_LINKS, *log], path=str(image), backup=True, **more) as run:
        result = json.loads(run.communicate(timeout=DEADLINE)[0].splitlines()[-1])
    assert result["changed"] and image.exists() is not removed, result
    kept = os.stat(result["backup_file"])
    assert digest(result["backup_file"]) == before
    names = ("st_mode", "st_uid", "st_gid", "st_mtime_ns", "st_size")
    assert [getattr(kept, name) for name in names] == [getattr(seen, name) for name in names]
    assert kept.st_ino != seen.st_ino and kept.st_blocks <= seen.st_blocks + 8
    assert sorted(image.parent.iterdir()) == sorted({Path(result["backup_file"]), *([] if removed else [image])})


def sparse(image: Path) -> None:
    """Some data in the middle."""
    with image.open("r+b") as stream:
        stream.seek(16 << 20)
        stream.write(b"data" * 4096)
