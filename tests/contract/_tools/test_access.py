"""Who else can write to a file, and what such a user could open."""

from __future__ import annotations

import ctypes
import os
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
