"""The files that drives name are found in each of the forms that a definition has for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._inspect import vm_definitions

FILE = {"driver": "file", "filename": "/a"}


@pytest.mark.parametrize(
    ("image", "found"),
    [
        ({"path": "/a", "format": "qcow2"}, [("/a", "qcow2")]),
        ({"path": "/a"}, [("/a", "")]),
        ({"path": "/a", "format": "raw", "options": {"offset": 512}}, [("/a", "")]),
        ({"blockdev": {"driver": "qcow2", "file": FILE}}, [("/a", "qcow2")]),
        ({"blockdev": {"driver": "raw", "size": 512, "file": FILE}}, [("/a", "")]),
        ({"blockdev": {"driver": "throttle", "file": {"driver": "raw", "file": FILE}}}, [("/a", "raw")]),
        ({"blockdev": {"driver": "quorum", "children": [{"driver": "raw", "file": FILE}, FILE]}}, [("/a", "raw"), ("/a", "")]),
        ({"blockdev": {"driver": "qcow2", "file": FILE, "backing": {"driver": "raw", "file": dict(FILE, filename="/b")}}},
         [("/a", "qcow2"), ("/b", "raw")]),
        ({"blockdev": {"driver": "nbd", "server": {"type": "unix", "path": "/s"}}}, []),
        ({"blockdev": {"driver": "raw", "file": "node0"}}, []),
    ],
    ids=str,
)  # fmt: skip
def test_the_files_of_an_image(image: dict[str, Any], found: list[tuple[str, str]]) -> None:
    assert list(vm_definitions.files_of(image)) == found


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(vm_definitions, "registry", lambda: str(tmp_path))
    return tmp_path


def written(registry: Path, vm: str, text: str) -> Path:
    file = registry / vm / "current" / "definition.json"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return file


def test_drives_and_nodes_of_all_vms_are_found(registry: Path) -> None:
    drives = {"drives": [{"id": "a", "image": {"path": "/a", "format": "raw"}}, {"id": "cd"}]}
    written(registry, "one", json.dumps({"vm": "one", "drives": drives}))
    nodes = {"drives": [], "nodes": [{"driver": "raw", "node-name": "n", "file": FILE}]}
    written(registry, "two", json.dumps({"vm": "two", "drives": nodes}))
    (registry / "gone").symlink_to(registry / "nothing")
    assert vm_definitions.named_files() == [
        ("one", str(registry / "one"), "a", "/a", "raw"),
        ("two", str(registry / "two"), "n", "/a", "raw"),
    ]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"vm": "a", "drives": 1}', '{"vm": "a", "drives": {"drives": [1]}}'])
def test_what_cannot_be_read_is_refused(registry: Path, text: str) -> None:
    file = written(registry, "one", text)
    with pytest.raises(errors.RefusedError) as caught:
        vm_definitions.named_files()
    assert (caught.value.reason, caught.value.facts["evidence"]) == ("definition_unreadable", {"path": str(file)})


def test_no_registry_names_nothing(registry: Path) -> None:
    registry.rmdir()
    assert vm_definitions.named_files() == []
