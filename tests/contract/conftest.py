"""A guest that the live tests share: it boots once, and each test plugs its own disks in."""

from __future__ import annotations

from typing import Iterator

import pytest

from ansible_collections.platter.qemu.tests.lab.vm import Guest, running_guest


@pytest.fixture(scope="session")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """With a guest agent and no disk. For tests of the xdist group C(guest), so that it boots once."""
    with running_guest(tmp_path_factory.mktemp("guest")) as booted:
        yield booted
