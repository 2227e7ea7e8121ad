"""Module processes of the fault tests: nothing of one that was killed is taken for gone while it is there."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from ansible_collections.platter.qemu.tests.lab.zygote import Zygote


def test_a_child_is_a_copy_until_it_has_ended_and_one_of_another_zygote_is_none(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = (Zygote(tmp_path / name) for name in ("one", "two"))
    try:
        child = one.start("disk_image", {"path": "/none", "state": "absent"}, stopped=True)
        assert (one.copies(), two.copies()) == ([child.pid], [])
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        assert one.copies() == []
    finally:
        for zygote in (one, two):
            zygote.close()
