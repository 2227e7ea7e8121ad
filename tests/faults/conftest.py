"""What fault tests share: warm module processes, and a count of all that was tried at the end."""

from __future__ import annotations

import os
import shutil
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab.amounts import SEED, SOAK, bound
from ansible_collections.platter.qemu.tests.lab.zygote import Zygote

_NEEDED = ("qemu-img", "qemu-io", "qemu-nbd", "strace", "setpriv", "losetup")


@pytest.fixture(scope="session", autouse=True)
def _programs() -> None:
    missing = [name for name in _NEEDED if not shutil.which(name)]
    if missing and os.environ.get("REQUIRE_QEMU"):
        pytest.fail("REQUIRE_QEMU is set, and missing: " + ", ".join(missing))
    if missing:
        pytest.skip("missing: " + ", ".join(missing))
    if os.geteuid():
        pytest.skip("fault tests need root")


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Zygote]:
    """Module processes, quickly."""
    started = Zygote(tmp_path_factory.mktemp("processes"))
    yield started
    started.close()


@pytest.fixture
def count(record_property: t.Callable[[str, object], None]) -> t.Callable[[str, int], None]:
    """C(count("kills", 12)): shown in sum at the end of the run."""

    def add(what: str, number: int) -> None:
        record_property("tried:" + what, number)

    return add


@pytest.fixture
def place(tmp_path: Path) -> t.Iterator[Path]:
    """An empty directory for one test, gone after it."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def pytest_terminal_summary(terminalreporter: t.Any) -> None:
    """The sums, with what they tell."""
    sums: dict[str, int] = {}
    for report in terminalreporter.stats.get("passed", []):
        for name, number in report.user_properties:
            if name.startswith("tried:"):
                sums[name[6:]] = sums.get(name[6:], 0) + int(number)
    if sums:
        terminalreporter.section(f"faults, SEED={SEED}{', soak' if SOAK else ''}")
        for what, number in sorted(sums.items()):
            terminalreporter.line(f"{what}: {bound(number)}")
