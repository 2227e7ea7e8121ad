"""Sources of NBD exports: what another user's link leads to, what is swapped behind the gate, what others can write to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused
from ansible_collections.platter.qemu.tests.lab.guest import KIB, guest_bytes, scribble
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.programs import exported

OWNER = 65534
SECRET = b"what only root may read" * 4096
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="another user's files are made as root")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return create(tmp_path / "disk", "raw", "8M")


@pytest.fixture
def task(tmp_path: Path, disk: Path) -> Iterator[dict[str, Any]]:
    """An export, and a user's image that is to be in it."""
    (tmp_path / "uploads").mkdir()
    source = create(tmp_path / "uploads" / "disk.qcow2", "qcow2", "4M")
    scribble(source, "qcow2")
    for path in (source, source.parent):
        os.chown(path, OWNER, OWNER)
    with exported(disk, "raw", tmp_path / "s", "-x", "disk", "-e", "8"):
        place = f"nbd+unix:///disk?socket={tmp_path / 's'}"
        yield {"path": place, "format": "raw", "source": {"path": str(source), "format": "qcow2"}}


def test_an_image_of_a_user_is_imported_into_an_export(task: dict[str, Any], disk: Path) -> None:
    four_beats(**task)
    assert disk.read_bytes()[: 64 * KIB] == guest_bytes(task["source"]["path"], "qcow2")[: 64 * KIB]


@pytest.mark.parametrize("when", ["compare", "check", "convert"])
def test_a_source_that_is_swapped_behind_the_gate_is_not_read(
    tmp_path: Path, task: dict[str, Any], disk: Path, when: str, instead: Any
) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    bad = create(tmp_path / "uploads" / "bad.qcow2", "qcow2", "4M", "", "-b", tmp_path / "secret", "-F", "raw")
    os.chown(bad, OWNER, OWNER)
    instead(f'[ "$1" = {when} ] && mv {bad} {task["source"]["path"]} 2>/dev/null\nexec "$real" "$@"')
    result = call("disk_image", **task, source_policy="if_changed")
    assert SECRET not in disk.read_bytes()
    assert (result["failed"], result["reason"]) == (True, "source_changed"), result
    assert "/proc/" not in result["msg"]


def test_a_link_of_a_user_leads_to_that_users_files_only(tmp_path: Path, task: dict[str, Any]) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    (hidden / "disk.raw").write_bytes(SECRET)
    link = tmp_path / "uploads" / "link"
    link.symlink_to(hidden / "disk.raw")
    os.chown(link, OWNER, OWNER, follow_symlinks=False)
    result = refused("unsafe_directory", **{**task, "source": {"path": str(link), "format": "raw"}})
    assert result["evidence"] == {"owner": OWNER}


def test_a_source_that_may_be_written_meanwhile_is_refused(task: dict[str, Any]) -> None:
    with open(task["source"]["path"], "r+b"):
        result = refused("source_writable", **task)
    assert result["evidence"] == {"owner": OWNER, "mode": "0644"}
    assert call("disk_image", **{**task, "source": {**task["source"], "trusted": True}})["changed"]
