"""Who may import whom (docs/architecture.md), read from the imports themselves."""

from __future__ import annotations

import ast
import typing as t
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
UTILS = PLUGINS / "module_utils"
PREFIX = "ansible_collections.platter.qemu.plugins.module_utils."

#: the parts of a resource that decide; those that act (engine, build, ...) are everything else
PURE_NAMES = (
    "definition",
    "ground",
    "qemu_nodes",
    "servers",
    "choice",
    "server_qemu_nbd",
    "server_nbdkit",
    "server_storage_daemon",
    "family",
    "committable",
    "retention",
    "layer_actions",
    "merge_actions",
    "plan_bitmaps",
    "plan_external",
    "plan_internal",
    "plan_merge",
    "plan_switch",
    "plan_unfinished",
    "merge_stages",
    "warn",
    "spec",
    "read_spec",
    "contradictions",
    "info_spec",
    "info_facts",
    "info_numbers",
    "state",
    "actions",
    "plan",
    "plan_change",
    "plan_base",
    "plan_options",
    "plan_size",
    "difference",
    "refuse",
    "refuse_changed",
    "refuse_rewrite",
    "refuse_running",
    "gate",
    "order",
    "foretell",
    "unit",
    "keep_places",
    "claims",
    "start_guard",
    "besides",
    "schema",
    "proof",
    "image",
    "buses",
    "copies",
    "start",
    "settings",
    "memory",
    "fixed",
    "monitor",
    "archive",
    "init_script",
    "kernel_modules",
)
IMPURE = {"os", "subprocess", "socket", "shutil", "tempfile", "time", "ansible", "fcntl", "pathlib", "threading"}

ALLOWED = {
    "_core": {"_core"},
    "_formats": {"_core", "_formats"},
    "_tools": {"_core", "_tools"},
    "_inspect": {"_core", "_formats", "_tools", "_inspect"},
    "_image": {"_core", "_formats", "_tools", "_inspect", "_image"},
    "_snapshot": {"_core", "_formats", "_tools", "_inspect", "_snapshot"},
    "_export": {"_core", "_formats", "_tools", "_inspect", "_export"},
    "_nbd": {"_core", "_formats", "_tools", "_inspect", "_nbd"},
    "_device": {"_core", "_formats", "_tools", "_inspect", "_device"},
    "_array": {"_core", "_formats", "_tools", "_inspect", "_array"},
    "_service": {"_core", "_tools", "_service"},
    "_keeper": {"_core", "_formats", "_tools", "_inspect", "_device", "_array", "_service", "_keeper"},
    "_timer": {"_core", "_formats", "_tools", "_inspect", "_snapshot", "_service", "_timer"},
    "_keys": {"_core", "_tools", "_keys"},
    "_directory": {"_core", "_tools", "_directory"},
    "_initramfs": {"_core", "_tools", "_initramfs"},
    "_drive": {"_core", "_drive"},
    "_vm": {"_core", "_formats", "_tools", "_inspect", "_drive", "_live", "_vm"},
    "_live": {"_core", "_drive", "_tools", "_live"},
    "_power": {"_core", "_formats", "_tools", "_inspect", "_drive", "_live", "_vm", "_power"},
    "_module": {"_core", "_formats", "_tools", "_module"},
}


def _module_of(package: str, name: str) -> str:
    """C(from package import name): a module of ours, when there is a file of that name, else the package itself."""
    inside = package.startswith(PREFIX.rstrip(".")) and UTILS / package[len(PREFIX) :].replace(".", "/") / (
        name + ".py"
    )
    return "%s.%s" % (package, name) if inside and inside.is_file() else package


def _imports(path: Path) -> t.Set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update(_module_of(node.module, alias.name) for alias in node.names)
    return found


def _is_pure(path: Path) -> bool:
    package = path.parent.name
    return package in ("_core", "_formats", "_drive") or (
        package
        in (
            "_image",
            "_snapshot",
            "_export",
            "_nbd",
            "_device",
            "_array",
            "_service",
            "_keeper",
            "_timer",
            "_keys",
            "_live",
            "_vm",
            "_power",
            "_initramfs",
            "_directory",
        )
        and path.stem in PURE_NAMES
    )


FILES = sorted(UTILS.glob("_*/*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_file_imports_only_from_its_own_layer_and_those_below(path: Path) -> None:
    ours = {name[len(PREFIX) :].split(".")[0] for name in _imports(path) if name.startswith(PREFIX)}
    assert ours <= ALLOWED[path.parent.name]


@pytest.mark.parametrize("path", [p for p in FILES if _is_pure(p)], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_decides_does_nothing_else(path: Path) -> None:
    assert not {name.split(".")[0] for name in _imports(path)} & IMPURE


@pytest.mark.parametrize("path", [p for p in FILES if _is_pure(p)], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_decides_imports_only_what_decides(path: Path) -> None:
    ours = [name[len(PREFIX) :] for name in _imports(path) if name.startswith(PREFIX)]
    files = [UTILS / (name.replace(".", "/") + ".py") for name in ours]
    assert all(_is_pure(file) for file in files if file.exists())


def test_only_modules_and_their_side_know_ansible() -> None:
    knowing = {p.parent.name for p in FILES if any(name.split(".")[0] == "ansible" for name in _imports(p))}
    assert knowing <= {"_module"}


def test_check_mode_is_read_once() -> None:
    reads = [p for p in PLUGINS.rglob("*.py") if ".check_mode" in p.read_text()]
    assert [p.name for p in reads] == ["run.py"]
    assert reads[0].read_text().count(".check_mode") == 1


def test_programs_are_started_in_one_place() -> None:
    starting = [p.relative_to(PLUGINS).as_posix() for p in FILES if "subprocess" in _imports(p)]
    assert starting == ["module_utils/_tools/process.py"]


@pytest.mark.parametrize("path", sorted((PLUGINS / "modules").glob("*.py")), ids=lambda path: path.name)
def test_a_module_file_decides_nothing(path: Path) -> None:
    kinds = (ast.Try,) + ((ast.If,) if path.suffix == ".py" else ())
    inside = [n for f in ast.parse(path.read_text()).body if isinstance(f, ast.FunctionDef) for n in ast.walk(f)]
    assert not [node for node in inside if isinstance(node, kinds)]


def test_no_file_is_named_after_nothing() -> None:
    assert not [p for p in PLUGINS.rglob("*.py") if p.stem.strip("_") in ("utils", "helpers", "common", "manager")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_file_can_be_held_in_the_head(path: Path) -> None:
    lines = path.read_text().count("\n")
    longest = max(
        (n.end_lineno - n.lineno for n in ast.walk(ast.parse(path.read_text())) if _is_function(n)), default=0
    )
    assert lines <= 330
    assert longest <= 60


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
