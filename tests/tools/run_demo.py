"""Makes this machine ready and runs playbooks/quickstart.yml on it.

IMAGE in the environment is the path or URL of a golden image of yours.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

from environment import clean
from paths import BUILD, ROOT
from pythons import CORES, NEEDED, installed
from system_tools import DEMO, install, install_missing, package_manager
from trees import link_checkout
from venvs import ensure_venv


def _install_venv_module() -> None:
    """Debian and Ubuntu keep a part of Python's venv module in a package of its own."""
    if importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv"):
        return
    if package_manager() == "apt-get" and os.geteuid() == 0:
        install(["python3-venv"], "apt-get")
        return
    raise SystemExit("missing: Python's venv module. Install with: apt-get install -y python3-venv")


def _newest_core() -> tuple[str, str]:
    """The newest ansible-core that a Python here can run, the python3 of this machine first."""
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for version in [own, *sorted(installed(), key=lambda text: int(text.split(".")[1]), reverse=True)]:
        for core, versions in CORES.items():
            if version in versions and version in installed():
                return core, version
    raise SystemExit(NEEDED)


def _environment() -> dict[str, str]:
    """Ansible with no settings but ours, and its own files under .build."""
    config = BUILD / "demo.cfg"
    tree = link_checkout()
    config.write_text("[defaults]\n")
    return {
        **clean(),
        "ANSIBLE_COLLECTIONS_PATH": str(tree),
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_HOME": str(BUILD / "ansible"),
        "ANSIBLE_REMOTE_TEMP": str(BUILD / "ansible" / "tmp"),
    }


def main() -> int:
    """Install what is missing, then run the playbook."""
    install_missing(DEMO)
    _install_venv_module()
    core, version = _newest_core()
    programs = ensure_venv(ROOT / ".venv", version, [f"core-{core}", "runtime"])
    command = [str(programs / "ansible-playbook"), "-i", "localhost,", "--connection", "local"]
    variables = {"ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    if os.environ.get("IMAGE"):
        variables["image"] = os.environ["IMAGE"]
    command += ["--extra-vars", json.dumps(variables), "playbooks/quickstart.yml"]
    return subprocess.run(command, cwd=ROOT, env=_environment(), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
