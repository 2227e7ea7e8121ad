"""Who else can write to a file, and what such a user could open."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._tools import access

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

_GET_DUMPABLE, _SET_DUMPABLE = 3, 4


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody reaches."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_to_ask_for_a_user_leaves_this_process_as_it_was(place: Path) -> None:
    """Else a QEMU of ours could not follow /proc/PID/fd/N without CAP_SYS_PTRACE, as in a container."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_SET_DUMPABLE, 1, 0, 0, 0)
    file = place / "file"
    file.touch(0o600)
    before = os.getresuid(), os.getresgid(), os.getgroups()
    somebody = access.Writer(uid=65534)
    assert not access.may(somebody, str(file), write=False)
    os.chown(file, 65534, 65534)
    assert access.may(somebody, str(file), write=True)
    assert prctl(_GET_DUMPABLE, 0, 0, 0, 0) == 1
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before


def test_the_group_of_a_directory_is_left_out_only_where_it_may_write(place: Path) -> None:
    """With an access list, the mode of the directory shows its mask instead."""
    if shutil.which("setfacl") is None:
        pytest.skip("needs setfacl")
    file, group = place / "file", access.Writer(gid=60000)
    file.touch()
    os.chown(file, 0, 60000)
    file.chmod(0o660)
    os.chown(place, 0, 60000)
    assert access.other_writers(str(file)) == {group}
    place.chmod(0o775)
    assert access.other_writers(str(file)) == set()
    place.chmod(0o755)
    subprocess.run(["setfacl", "-m", "u:nobody:rwx", place], check=True)
    assert place.stat().st_mode & 0o020
    assert access.other_writers(str(file)) == {group}
    subprocess.run(["setfacl", "-m", "g::rwx", place], check=True)
    assert access.other_writers(str(file)) == set()
