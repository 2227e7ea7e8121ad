"""The steps of make test: what each runs, what it needs, and how its tests are counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Sequence

import counts
from environment import isolated
from paths import BUILD, COLLECTION, LOGS, ROOT
from pythons import installed
from system_tools import STORAGE

OLDEST_CORE, OLDEST_TARGET = "2.19", "3.8"
#: scenarios that take minutes: only when they are asked for (make molecule-guest, make soak)
SLOW_SCENARIOS = ("guest",)


@dataclass(frozen=True)
class Core:
    """One ansible-core on one Python: its programs, its copy of the checkout, its environment."""

    number: str
    version: str
    bin: Path

    @property
    def tree(self) -> Path:
        """The ansible_collections tree with this core's copy of the checkout."""
        return BUILD / f"core-{self.number}"

    @property
    def copy(self) -> Path:
        """This core's copy of the checkout."""
        return self.tree / COLLECTION

    def environment(self) -> dict[str, str]:
        """The environment for this core's commands."""
        return isolated(self.bin, self.tree, f"home-{self.number}")


@dataclass(frozen=True)
class Step:
    """One line of make test's output."""

    name: str
    group: str
    command: list[str]
    core: Core
    cwd: Path = ROOT
    needs: tuple[str, ...] = ()
    count: Callable[[int, Path], counts.Counts] = counts.count_one
    host_wide: bool = False  # one such at a time: it uses the machine's devices, or what is in one place for all
    environment: dict[str, str] = field(default_factory=dict)
    always: bool = True  # else only if it is named


def _lint(core: Core) -> list[Step]:
    plugins = ["plugins/modules", "plugins/module_utils", "plugins/filter"]
    packages = [
        option for name in plugins for option in ("-p", f"ansible_collections.platter.qemu.{name.replace('/', '.')}")
    ]
    commands = {
        "ruff-check": ["ruff", "check", "--no-cache", "."],
        "ruff-format": ["ruff", "format", "--check", "--no-cache", "."],
        "mypy": ["mypy", "--cache-dir", str(BUILD / "mypy"), "--config-file", "pyproject.toml", *packages],
        "yamllint": ["yamllint", "--strict", "."],
        "ansible-lint": ["ansible-lint", "--offline", "--profile", "production", "--strict"],
        "docs-lint": ["antsibull-docs", "lint-collection-docs", "--plugin-docs", "."],
        "changelog-lint": ["antsibull-changelog", "lint"],
    }
    steps = [
        Step(name, "lint", command, core, cwd=core.copy, environment={"MYPYPATH": str(core.tree)})
        for name, command in commands.items()
    ]
    scripts = "git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck"
    return [*steps, Step("shellcheck", "lint", ["sh", "-c", scripts], core, cwd=core.copy, needs=("git", "shellcheck"))]


def _oldest_python(core: Core) -> list[Step]:
    if OLDEST_TARGET not in installed():
        return []
    command = [installed()[OLDEST_TARGET], "tests/tools/check_syntax.py", "plugins/modules", "plugins/module_utils"]
    return [Step(f"syntax-{OLDEST_TARGET}", "lint", command, core)]


def pytest_step(name: str, group: str, core: Core, directory: str, *options: str, **more) -> Step:
    """A step that runs the tests of one directory and counts them from pytest's own report."""
    report = LOGS / f"{name}.xml"
    command = ["pytest", directory, f"--junit-xml={report}", "-o", "junit_family=xunit2", *options]
    return Step(name, group, command, core, cwd=core.copy, count=counts.count_pytest, **more)


def _on_real_tools(core: Core) -> list[Step]:
    workers = ("-n", "2", "--dist", "loadgroup")
    return [
        pytest_step("contract", "contract", core, "tests/contract", *workers, needs=tuple(STORAGE), host_wide=True),
        pytest_step(
            "faults", "faults", core, "tests/faults", *workers, "-m", "not soak", needs=tuple(STORAGE), host_wide=True
        ),
    ]


def _sanity(core: Core, *directories: str, pythons: Sequence[str] = ()) -> Step:
    """All of the checkout, or these directories of it; what runs on several Pythons runs on these, or on all that are here."""
    chosen = [option for version in pythons for option in ("--target-python", version)]
    where = ["--controller", f"origin:python={core.version}", *chosen] if chosen else ["--local"]
    command = ["ansible-test", "sanity", *where, "-v", "--color", "no", *directories]
    needs = ("git", "shellcheck")
    return Step(f"sanity-{core.number}", "sanity", command, core, core.copy, needs, counts.count_sanity)


def _own_pythons(core: Core) -> list[str]:
    """The Pythons that only this core is tested on: its own, and with the oldest core the oldest of a host."""
    return [*([OLDEST_TARGET] if core.number == OLDEST_CORE and OLDEST_TARGET in installed() else []), core.version]


def _where(core: Core) -> list[str]:
    """The oldest core manages the oldest Python it supports, where there is one; the others manage their own."""
    if core.number == OLDEST_CORE and OLDEST_TARGET in installed():
        return ["--controller", f"origin:python={core.version}", "--target", f"controller:python={OLDEST_TARGET}"]
    return ["--local", "--python", core.version]


def _integration(core: Core) -> list[Step]:
    """Targets that keep to a directory of their own, and those that use the host's own places."""
    command = ["ansible-test", "integration", *_where(core), "--continue-on-error", "--color", "no"]
    found = {"core": core, "cwd": core.copy, "needs": tuple(STORAGE), "count": counts.count_integration}
    return [
        Step(f"integration-{core.number}", "integration", [*command, "non_destructive/"], **found),
        Step(f"integration-host-{core.number}", "integration", [*command, "destructive/"], host_wide=True, **found),
    ]


def _molecule(core: Core) -> list[Step]:
    scenarios = sorted(path.parent.name for path in ROOT.glob("extensions/molecule/*/molecule.yml"))
    return [
        Step(
            f"molecule-{name}",
            "slow" if name in SLOW_SCENARIOS else "molecule",
            ["molecule", "test", "--scenario-name", name],
            core,
            cwd=core.copy / "extensions",
            needs=tuple(STORAGE),
            host_wide=True,
            always=name not in SLOW_SCENARIOS,
        )
        for name in scenarios
    ]


def all_steps(cores: list[Core]) -> list[Step]:
    """Every step, the quick ones first; the newest core's programs run what needs only one core."""
    newest = cores[0]
    return [
        *_lint(newest),
        *_oldest_python(newest),
        *(pytest_step(f"unit-{core.number}", "unit", core, "tests/unit") for core in cores),
        _sanity(newest),
        # what runs on hosts, which is half of the time, and not again on Pythons that the newest core has imported it on
        *(_sanity(core, "plugins/", pythons=_own_pythons(core)) for core in cores[1:]),
        *(step for core in cores for step in _integration(core)),
        *_molecule(newest),
        *_on_real_tools(newest),  # last, as they alone use two processors when no other step is left
    ]
