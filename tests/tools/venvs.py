"""Virtual environments from pinned requirements; made again only when the requirements change."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Iterator

from paths import BUILD, LOGS, REQUIREMENTS, ROOT
from pythons import installed


def _stamp(executable: str, names: list[str]) -> str:
    parts = [executable, *((REQUIREMENTS / f"{name}.txt").read_text() for name in names)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def ensure_venv(directory: Path, version: str, names: list[str]) -> Path:
    """The venv's bin directory, after making it from tests/requirements/NAME.txt if need be."""
    executable, mark = installed()[version], directory / "requirements.sha256"
    stamp = _stamp(executable, names)
    with _alone(directory):
        if not mark.exists() or mark.read_text() != stamp:
            print(f"making {directory.relative_to(ROOT)} with {', '.join(names)}", flush=True)
            shutil.rmtree(directory, ignore_errors=True)
            _make(directory, executable, names)
            mark.write_text(stamp)
    return directory / "bin"


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Two commands of make at a time make it once."""
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / f"make-{directory.name.lstrip('.')}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(directory: Path, executable: str, names: list[str]) -> None:
    """Make the venv; pip's chatter goes to a log, which is shown when it fails."""
    files = [option for name in names for option in ("-r", str(REQUIREMENTS / f"{name}.txt"))]
    pip = [str(directory / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", *files]
    log = LOGS / f"make-{directory.name.lstrip('.')}.log"
    with log.open("w") as output:
        for command in ([executable, "-m", "venv", str(directory)], pip):
            done = subprocess.run(
                command, check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
            if done.returncode != 0:
                raise SystemExit(f"{log.read_text()}\ncould not make {directory}; see {log}")


def ensure_test_venv(core: str, version: str, *, tools: bool) -> Path:
    """The venv the tests of one ansible-core run in; the newest core's also holds the tools."""
    names = [f"core-{core}", "runtime", "pytest", *(["tools"] if tools else [])]
    return ensure_venv(BUILD / f"venv-{core}-{version}", version, names)
