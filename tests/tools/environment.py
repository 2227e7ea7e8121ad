"""The environment tests run in: a home of their own, and no settings of the user's."""

from __future__ import annotations

import os
from pathlib import Path

from paths import BUILD
from pythons import link_pythons
from system_tools import search_path
from trees import make_home

DROPPED = ("ANSIBLE_", "COLLECTIONS_", "MOLECULE_", "PYTEST_", "PYTHON", "VIRTUAL_ENV", "XDG_")


def clean() -> dict[str, str]:
    """The user's environment without what would influence Ansible or Python."""
    return {name: value for name, value in os.environ.items() if not name.startswith(DROPPED)}


def _pip_settings() -> dict[str, str]:
    """The user's package mirror is not a setting of the tests: keep it in the new home."""
    config = Path.home() / ".config" / "pip" / "pip.conf"
    return {"PIP_CONFIG_FILE": str(config)} if config.exists() and "PIP_CONFIG_FILE" not in os.environ else {}


def isolated(bin_directory: Path, collections: Path, home_name: str) -> dict[str, str]:
    """What a command of one venv sees; collections is the tree it finds platter.qemu in."""
    home = make_home(BUILD / home_name)
    config = home / "ansible.cfg"
    config.write_text("[defaults]\n")
    pythons = BUILD / "pythons"
    return {
        **clean(),
        **_pip_settings(),
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_HOME": str(home / ".ansible"),
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
        "PATH": os.pathsep.join(
            [str(bin_directory), str(pythons if pythons.exists() else link_pythons(pythons)), search_path()]
        ),
        "PYTHONDONTWRITEBYTECODE": "1",
        "REQUIRE_QEMU": "1",
    }
