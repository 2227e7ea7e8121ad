"""What holds for the tasks of all roles."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROLES = Path(__file__).resolve().parents[2] / "roles"
#: as a module, or as a program that a task starts
SHELL = re.compile(
    r"\b(builtin\.)?(shell|script|raw):\s*$|(?<![\w/.-])((/usr)?/bin/)?(ba|da)?sh(?![\w/.-])", re.MULTILINE
)


@pytest.mark.parametrize("file", sorted(ROLES.glob("*/tasks/*.yml")), ids=lambda file: str(file.relative_to(ROLES)))
def test_no_task_of_a_role_starts_a_shell(file: Path) -> None:
    assert SHELL.findall(re.sub(r"^\s*#.*", "", file.read_text(), flags=re.MULTILINE)) == []
