"""What several contract tests share."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest


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
