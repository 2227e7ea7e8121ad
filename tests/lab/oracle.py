"""The installed qemu-img, as the oracle of tests that compare with it."""

from __future__ import annotations

import functools
import json
import os
import re
import resource
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

#: QEMU measures its own CPU time to choose iterations, and fails at random on a busy machine.
_BY_CHANCE = "Unable to get accurate CPU usage"
_TRIES = 100


def require_qemu() -> None:
    """Skips without qemu-img; with REQUIRE_QEMU=1 that is a failure."""
    if shutil.which("qemu-img"):
        return
    if os.environ.get("REQUIRE_QEMU"):
        pytest.fail("REQUIRE_QEMU is set and qemu-img is not installed")
    pytest.skip("qemu-img is not installed")


@functools.lru_cache(maxsize=None)
def version() -> tuple[int, int]:
    """(major, minor) of the installed qemu-img."""
    said = subprocess.run(["qemu-img", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\d+)\.(\d+)", said)
    assert found, said
    return int(found.group(1)), int(found.group(2))


def try_qemu_img(*argv: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """One run; again only where QEMU fails by chance."""
    for again in range(_TRIES):
        time.sleep(min(again * 0.0007, 0.02))
        command = ["qemu-img", *map(str, argv)]
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=180, check=False)
        if _BY_CHANCE not in done.stderr:
            break
    return done


def qemu_img(*argv: object, cwd: Path | None = None) -> str:
    """Must succeed; what it printed."""
    done = try_qemu_img(*argv, cwd=cwd)
    assert done.returncode == 0, (argv, done.returncode, done.stderr)
    return done.stdout


def create(path: Path, format: str, size: object = "", options: str = "", *more: object) -> Path:
    """A new image. C(more) go before the name, as C(-b base -F raw)."""
    given = ["-o", options] if options else []
    qemu_img("create", "-q", "-f", format, *more, *given, path, *([size] if size != "" else []), cwd=path.parent)
    return path


def info(path: Path, format: str, name: object = None) -> dict[str, Any]:
    """C(qemu-img info) as a dict; C(name) as it stands on the command line."""
    told = qemu_img("info", "--output=json", "-f", format, name or path, cwd=path.parent)
    return dict(without_news(json.loads(told)))


def without_news(told: Any) -> Any:
    """The answer without what newer QEMUs add to it: C(detached-header) of LUKS (9.0), always false in our files."""
    if isinstance(told, list):
        return [without_news(each) for each in told]
    if not isinstance(told, dict):
        return told
    assert not told.get("detached-header")
    return {name: without_news(each) for name, each in told.items() if name != "detached-header"}


def info_of_hostile(path: Path, format: str, seconds: int = 5) -> dict[str, Any] | None:
    """The same for bytes that may be anything: limited, and None where QEMU refuses them."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))

    command = ["qemu-img", "info", "--output=json", "-f", format, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, preexec_fn=limit, timeout=36 * seconds, check=False)
    except subprocess.TimeoutExpired:
        return None
    return json.loads(done.stdout.decode("utf-8", "replace")) if done.returncode == 0 else None
