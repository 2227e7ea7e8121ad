"""The lab's own programs."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.programs import exported, first_client


def test_a_server_is_there_though_a_client_was_quicker_than_the_look_at_it(tmp_path: Path) -> None:
    image = create(tmp_path / "image", "raw", "1M")
    with first_client(tmp_path / "socket") as served, exported(image, "raw", tmp_path / "socket"):
        served()
