"""Runs contract tests against other QEMUs than this machine's: run_matrix.py [--about MODULE] [SUITE ...], all by default."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from counts import Counts, count_pytest
from environment import isolated
from paths import LOGS, ROOT
from pythons import matrix
from qemu_versions import SUITES, programs_of
from trees import link_checkout
from venvs import ensure_test_venv

# What depends on QEMU: its options, headers, messages, protocol. Not what depends on this machine's devices and servers.
TESTS = {
    "disk_image": (
        "contract/test_disk_image_[a-co-s]*.py",
        "contract/test_created_sizes.py",
        "contract/test_feature_matrix.py",
        "contract/test_headers_against_qemu.py",
        "contract/test_option_rules.py",
    ),
    "image_snapshot": (
        "contract/test_image_snapshot_*.py",
        "contract/test_live_snapshot_*.py",
        "contract/test_snapshot_guide.py",
        "contract/_tools/test_qmp.py",
        "contract/_tools/test_image_lock.py",
        "faults/test_live_*kills.py",
    ),
    "qemu_drive": ("contract/_drive/test_*.py", "contract/_live/test_*.py", "contract/test_qemu_drive*.py"),
    "nbd_info": ("contract/test_nbd_info.py", "contract/_tools/test_nbd_*.py"),
}


def _tests(modules: list[str]) -> list[str]:
    directory = ROOT / "tests"
    patterns = [pattern for module in modules for pattern in TESTS[module]]
    found = {str(path.relative_to(ROOT)) for pattern in patterns for path in directory.glob(pattern)}
    return sorted(found)


def _run(suite: str, modules: list[str], environment: dict[str, str]) -> tuple[str, Counts]:
    """QEMU's version, and how it went; what pytest says goes to the terminal."""
    programs = programs_of(suite)
    said = subprocess.run([programs / "qemu-img", "--version"], check=True, capture_output=True, text=True).stdout
    version = said.splitlines()[0].partition(" version ")[2].partition(" ")[0]
    print(f"{suite}: QEMU {version}", flush=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"matrix-{suite}.log"
    report = log.with_suffix(".xml")
    report.unlink(missing_ok=True)
    command = ["pytest", "-q", "-n", "2", "--dist", "loadgroup", f"--junit-xml={report}", *_tests(modules)]
    path = os.pathsep.join([str(programs), environment["PATH"]])
    done = subprocess.run(["env", *command], cwd=ROOT, env={**environment, "PATH": path}, check=False)
    return version, count_pytest(done.returncode, log)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--about", choices=TESTS, action="append", help="only what this module does")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(SUITES))
    found = parser.parse_args()
    unknown = set(found.suites) - set(SUITES)
    if unknown:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}. There are: {', '.join(SUITES)}")
    return found


def main() -> int:
    """One QEMU after the other; the last line tells how many tests passed and failed with all of them."""
    asked = _arguments()
    core, python = matrix()[0]
    environment = isolated(Path(ensure_test_venv(core, python, tools=True)), link_checkout(), f"home-{core}")
    done = [(suite, *_run(suite, asked.about or list(TESTS), environment)) for suite in asked.suites or SUITES]
    for suite, version, counts in done:
        print(f"{suite}, QEMU {version}: {counts.passed} passed, {counts.failed} failed, {counts.skipped} skipped")
    passed, failed = (sum(getattr(each[2], name) for each in done) for name in ("passed", "failed"))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
