"""Runs a command in the checkout, in the newest test venv: run_in_venv.py COMMAND ..."""

from __future__ import annotations

import os
import sys

from environment import isolated
from paths import ROOT
from pythons import matrix
from trees import link_checkout
from venvs import ensure_test_venv


def main() -> None:
    """Become the command."""
    core, version = matrix()[0]
    programs = ensure_test_venv(core, version, tools=True)
    environment = isolated(programs, link_checkout(), f"home-{core}")
    os.chdir(ROOT)
    os.execvpe("env", ["env", *sys.argv[1:]], environment)


if __name__ == "__main__":
    main()
