"""The lab's own programs."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.ports import free_port
from ansible_collections.platter.qemu.tests.lab.programs import exported, first_client


def test_a_server_is_there_though_a_client_was_quicker_than_the_look_at_it(tmp_path: Path) -> None:
    image = create(tmp_path / "image", "raw", "1M")
    with first_client(tmp_path / "socket") as served, exported(image, "raw", tmp_path / "socket"):
        served()


def test_a_port_is_given_once_and_is_none_that_the_kernel_gives_to_clients() -> None:
    """Nor is it given to a test of another process, as long as this one runs."""
    code = "from ansible_collections.platter.qemu.tests.lab.ports import free_port; print(free_port())"
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {[path for path in sys.path if path]!r}; {code}"]
    given = [free_port() for _each in range(50)]
    given += [int(subprocess.run(command, capture_output=True, check=True).stdout) for _each in range(2)]
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert len(set(given)) == 52 and max(given) < first
    with socket.socket(socket.AF_UNIX) as claim, pytest.raises(OSError, match="in use"):
        claim.bind(f"\0platter.qemu-tests-port-{given[0]}")
