"""Programs that leave no access times hold no mount of the host's."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._tools.quiet import quietly
from ansible_collections.platter.qemu.tests.lab.loops import HAVE_LOOPS, attached, mounted
from ansible_collections.platter.qemu.tests.lab.programs import running, wait_until


@pytest.mark.skipif(not HAVE_LOOPS, reason="needs root")
def test_what_the_host_unmounts_meanwhile_is_unmounted(tmp_path: Path) -> None:
    disk, read, place = tmp_path / "disk", tmp_path / "read", tmp_path / "mnt"
    for directory in (read, place):
        directory.mkdir()
    disk.write_bytes(bytes(4 << 20))
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    with contextlib.ExitStack() as until:
        device = until.enter_context(attached(disk))
        until.enter_context(mounted("tmpfs", read, "-t", "tmpfs", "-o", "strictatime"))
        argv = quietly(["sh", "-c", "echo ready; exec cat"], [str(read)])
        assert argv[0] == "unshare"
        with mounted(device, place):
            reader = until.enter_context(running(*argv))
            assert reader.stdout and reader.stdout.readline() == b"ready\n"
        # what programs of other tests have made of their mounts meanwhile ends with these, and the reader does not
        wait_until(lambda: _is_free(device), "no file system is mounted from it any more")


def _is_free(device: str) -> bool:
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
    except OSError as exc:
        assert exc.errno == errno.EBUSY
        return False
    return True
