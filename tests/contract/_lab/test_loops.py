"""Loop devices of tests are gone when they say so, though other tests look at all that there are."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab import devices
from ansible_collections.platter.qemu.tests.lab.loops import HAVE_LOOPS, attached, numbered

pytestmark = pytest.mark.skipif(not HAVE_LOOPS, reason="needs root and loop devices")


def looked_at(device: str) -> None:
    """For a moment."""
    threading.Timer(0.3, os.close, (os.open(device, os.O_RDONLY | os.O_NONBLOCK),)).start()


def test_the_file_is_free_after_the_block(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    file.write_bytes(bytes(1 << 20))
    with attached(file) as device:
        looked_at(device)
    assert not devices.on_file(file)


def test_a_device_of_a_number_goes_with_the_block() -> None:
    with numbered() as device:
        looked_at(device)
    assert not os.path.exists(device)
