"""Programs of ours that outlive the play."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._tools import own_programs


@pytest.mark.parametrize(
    ("behind", "is_taken"),
    [("platform-python3.6", False), ("python3.7", False), ("python3.8", True), ("python3.11", True), ("python", True)],
)
def test_the_python_of_the_host_runs_them_if_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: str, is_taken: bool
) -> None:
    """One that is too old would fail each night, long after the task that was well."""
    (tmp_path / behind).write_text("")
    (tmp_path / behind).chmod(0o755)
    python = tmp_path / "python3"
    python.symlink_to(behind)
    monkeypatch.setattr(own_programs, "_PYTHON", str(python))
    assert own_programs.words("/x.pyz") == (str(python) if is_taken else sys.executable, "-I", "-S", "/x.pyz")
