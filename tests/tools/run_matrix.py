"""Runs contract tests against other QEMUs than this machine's: run_matrix.py [SUITE ...], all of them by default."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from environment import isolated
from paths import LOGS, ROOT
from pythons import matrix
from qemu_versions import SUITES, programs_of
from trees import link_checkout
from venvs import ensure_test_venv

# What depends on QEMU: its options, headers, messages, protocol. Not what depends on this machine's devices and servers.
TESTS = (
    "contract/test_disk_image_[a-co-s]*.py",
    "contract/test_created_sizes.py",
    "contract/test_feature_matrix.py",
    "contract/test_headers_against_qemu.py",
    "contract/test_option_rules.py",
    "contract/test_image_snapshot_*.py",
    "contract/test_live_snapshot_*.py",
    "contract/test_snapshot_guide.py",
    "contract/_drive/test_*.py",
    "contract/_tools/test_qmp.py",
    "contract/test_nbd_info.py",
    "contract/_tools/test_image_lock.py",
    "contract/_tools/test_nbd_*.py",
    "faults/test_live_*kills.py",
)


def _tests() -> list[str]:
    directory = ROOT / "tests"
    found = {str(path.relative_to(ROOT)) for pattern in TESTS for path in directory.glob(pattern)}
    return sorted(found)


def _run(suite: str, environment: dict[str, str]) -> int:
    """The exit status of pytest; what it says goes to the terminal."""
    programs = programs_of(suite)
    version = subprocess.run([programs / "qemu-img", "--version"], check=True, capture_output=True, text=True).stdout
    print(f"{suite}: {version.splitlines()[0]}", flush=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    report = f"--junit-xml={LOGS / f'matrix-{suite}.xml'}"
    command = ["pytest", "-q", "-n", "2", "--dist", "loadgroup", report, *_tests()]
    path = os.pathsep.join([str(programs), environment["PATH"]])
    return subprocess.run(["env", *command], cwd=ROOT, env={**environment, "PATH": path}, check=False).returncode


def main() -> int:
    """One QEMU after the other."""
    unknown = set(sys.argv[1:]) - set(SUITES)
    if unknown:
        raise SystemExit(f"no such suite: {', '.join(sorted(unknown))}. There are: {', '.join(SUITES)}")
    core, version = matrix()[0]
    environment = isolated(Path(ensure_test_venv(core, version, tools=True)), link_checkout(), f"home-{core}")
    return max([_run(suite, environment) for suite in sys.argv[1:] or SUITES])


if __name__ == "__main__":
    sys.exit(main())
