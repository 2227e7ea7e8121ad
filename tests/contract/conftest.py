"""What several contract tests share."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.tests.lab.vm import Guest, running_guest


@pytest.fixture(scope="session")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """With a guest agent and no disk. For tests of the xdist group C(guest), so that it boots once."""
    with running_guest(tmp_path_factory.mktemp("guest")) as booted:
        yield booted


@pytest.fixture
def instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a qemu-img of our own before the real one: C(script) sees C($real) and the arguments."""

    def put(script: str) -> None:
        directory = tmp_path / "bin"
        directory.mkdir()
        program = directory / "qemu-img"
        program.write_text(f"#!/bin/sh\nreal={shutil.which('qemu-img')}\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(directory), prepend=":")

    return put
