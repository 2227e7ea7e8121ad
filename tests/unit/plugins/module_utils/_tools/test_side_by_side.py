"""Threads for the items of a task: answers in order, and no imports in them where those would meet."""

from __future__ import annotations

import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins import module_utils
from ansible_collections.platter.qemu.plugins.module_utils._tools.side_by_side import side_by_side

ROOT = Path(next(iter(module_utils.__path__)))


def test_jobs_meet_and_answers_are_in_their_order() -> None:
    together = threading.Barrier(3, timeout=60)
    assert side_by_side(lambda job: (together.wait() >= 0, job), [3, 1, 2], 3) == [(True, 3), (True, 1), (True, 2)]


@pytest.mark.parametrize(("jobs", "workers"), [([], 4), ([1], 4), ([1, 2], 1), ([1, 2], 0)])
def test_without_need_there_is_no_thread(jobs: list[int], workers: int) -> None:
    here = threading.current_thread()
    assert side_by_side(lambda job: threading.current_thread() is here, jobs, workers) == [True] * len(jobs)


#: in a process of its own: what a module has that came as Ansible sends it, in a zip file, when a thread begins
_LOADED = """
import sys
sys.path.insert(0, sys.argv[1])
sys.version_info = tuple(int(part) for part in sys.argv[2].split("."))
from ansible_collections.platter.qemu.plugins.module_utils._tools.side_by_side import side_by_side
print(*side_by_side(lambda _job: [name for name in sys.modules if name.startswith("ansible_collections.")], [1, 2], 2)[0])
"""


@pytest.mark.parametrize(("version", "imported"), [("3.9.9", True), ("3.10.0", False)])
def test_an_old_python_has_imported_all_before_the_first_thread(tmp_path: Path, version: str, imported: bool) -> None:
    shipped = {f"{module_utils.__name__}.{path.parent.name}.{path.stem}" for path in ROOT.glob("_*/*.py")}
    command = [sys.executable, "-c", _LOADED, str(as_ansible_sends_it(tmp_path / "module.zip")), version]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert (shipped <= loaded) is imported and (module_utils.__name__ + "._formats.vhdx" in loaded) is imported


def as_ansible_sends_it(path: Path) -> Path:
    """All of module_utils in a zip file, with the empty packages that Ansible puts there."""
    home = Path(*module_utils.__name__.split("."))
    with zipfile.ZipFile(path, "w") as archive:
        packages = [home / part for part in {each.parent.name for each in ROOT.glob("_*/*.py")}]
        for package in [*packages, home, *home.parents][:-1]:
            archive.writestr(str(package / "__init__.py"), "")
        for each in ROOT.glob("_*/*.py"):
            archive.write(each, home / each.relative_to(ROOT))
    return path
