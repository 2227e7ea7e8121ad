"""The files that drives name are found in each of the forms that a definition has for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._inspect import vm_definitions

FILE = {"driver": "file", "filename": "/a"}
OTHER = dict(FILE, filename="/b")


@pytest.mark.parametrize(
    ("image", "found"),
    [
        ({"path": "/a", "format": "qcow2"}, [("/a", "qcow2", None)]),
        ({"path": "/a"}, [("/a", "", None)]),
        ({"path": "/a", "format": "raw", "options": {"offset": 512}}, [("/a", "", None)]),
        ({"path": "/a", "format": "qcow2", "options": {"backing": None}}, [("/a", "qcow2", None)]),
        ({"blockdev": {"driver": "qcow2", "file": FILE}}, [("/a", "qcow2", None)]),
        ({"blockdev": {"driver": "raw", "size": 512, "file": FILE}}, [("/a", "", None)]),
        ({"blockdev": {"driver": "throttle", "file": {"driver": "raw", "file": FILE}}}, [("/a", "raw", None)]),
        ({"blockdev": {"driver": "quorum", "children": [{"driver": "raw", "file": FILE}, FILE]}},
         [("/a", "raw", None), ("/a", "", None)]),
        ({"blockdev": {"driver": "qcow2", "file": FILE, "backing": {"driver": "raw", "file": OTHER}}},
         [("/a", "qcow2", None), ("/b", "raw", "/a")]),
        ({"blockdev": {"driver": "qcow2", "backing": {"driver": "raw", "file": OTHER}, "file": {"driver": "nbd"}}},
         [("/b", "raw", "")]),
        ({"blockdev": {"driver": "qcow2", "file": FILE, "data-file": OTHER}}, [("/a", "qcow2", None), ("/b", "", "/a")]),
        ({"blockdev": {"driver": "nbd", "server": {"type": "unix", "path": "/s"}}}, []),
        ({"blockdev": {"driver": "raw", "file": "node0"}}, []),
    ],
    ids=str,
)  # fmt: skip
def test_the_files_of_an_image(image: dict[str, Any], found: list[tuple[str, str, str | None]]) -> None:
    assert list(vm_definitions.files_of(image)) == found


def test_each_base_has_the_image_on_it_that_is_next() -> None:
    top: Any = {"driver": "raw", "file": dict(FILE, filename="/0")}
    for number in range(1, 4):
        middle = {"driver": "throttle", "throttle-group": "g", "file": top}
        top = {"driver": "qcow2", "backing": middle, "file": dict(FILE, filename="/%d" % number)}
    found = {each.path: (each.format, each.over) for each in vm_definitions.files_in(top)}
    assert found == {"/3": ("qcow2", None), "/2": ("qcow2", "/3"), "/1": ("qcow2", "/2"), "/0": ("raw", "/1")}


def test_a_deep_image_without_a_file_is_looked_through_once() -> None:
    """Not twice at each level, which would not end here; and no base of one is taken for its file."""
    with_bases: dict[str, Any] = {"driver": "null-co"}
    without = with_bases
    for _level in range(100):
        with_bases = {"driver": "qcow2", "file": with_bases, "backing": FILE}
        without = {"driver": "qcow2", "file": without, "backing": {"driver": "null-co"}}
    assert list(vm_definitions.files_in(with_bases)) == [("/a", "", "")] * 100
    assert list(vm_definitions.files_in(without)) == []


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
        ("one", str(registry / "one"), "a", "/a", "raw", None),
        ("two", str(registry / "two"), "n", "/a", "raw", None),
    ]


#: the ways in which a drive has another image below it by its name
BY_NAME: dict[str, dict[str, Any]] = {
    "node": {"nodes": [{"node-name": "below", "driver": "qcow2", "file": OTHER}]},
    "nodes": {"nodes": [dict(OTHER, **{"node-name": "p"}), {"node-name": "below", "driver": "qcow2", "file": "p"}]},
    "drive": {"drives": [{"id": "below", "image": {"path": "/b", "format": "qcow2"}}]},
    "inner": {"nodes": [{"node-name": "t", "driver": "raw", "file": {"node-name": "below", "driver": "qcow2", "file": OTHER}}]},
}  # fmt: skip


@pytest.mark.parametrize("way", BY_NAME)
def test_what_a_drive_has_below_by_its_name_is_found(registry: Path, way: str) -> None:
    top = {"driver": "qcow2", "file": FILE, "backing": "below"}
    drives = [{"id": "a", "image": {"blockdev": top}, "device": "x"}, *BY_NAME[way].get("drives", ())]
    written(registry, "one", json.dumps({"vm": "one", "drives": {**BY_NAME[way], "drives": drives}}))
    found = [each[2:] for each in vm_definitions.named_files()]
    assert found[:2] == [("a", "/a", "qcow2", None), ("a", "/b", "qcow2", "/a")]
    assert found[2:] == ([("t", "/b", "qcow2", None)] if way == "inner" else [])


def test_a_drive_with_a_device_is_its_own_and_what_another_is_built_on(registry: Path) -> None:
    top = {"driver": "qcow2", "file": FILE, "backing": "below"}
    own = {"id": "below", "image": {"path": "/b", "format": "qcow2"}, "device": "x"}
    drives = [{"id": "a", "image": {"blockdev": top}, "device": "x"}, own]
    written(registry, "one", json.dumps({"vm": "one", "drives": {"drives": drives}}))
    named = [(each.drive, each.path, each.over) for each in vm_definitions.named_files()]
    assert named == [("a", "/a", None), ("a", "/b", "/a"), ("below", "/b", None)]


def test_nodes_that_have_each_other_are_looked_through_once(registry: Path) -> None:
    """QEMU opens no such thing; but the images of other VMs have nothing to do with it."""
    nodes = [{"node-name": name, "driver": "raw", "file": other, "backing": FILE} for name, other in ("nm", "mn")]
    drives = [{"id": "a", "image": {"blockdev": {"driver": "qcow2", "file": "n"}}, "device": "x"}]
    written(registry, "one", json.dumps({"vm": "one", "drives": {"drives": drives, "nodes": nodes}}))
    assert {(each.drive, each.path) for each in vm_definitions.named_files()} == {("a", "/a")}


def test_a_node_below_many_is_looked_through_once(registry: Path) -> None:
    """Each of 60 levels has the next one twice."""
    nodes: list[dict[str, Any]] = [{"node-name": "n0", **FILE}]
    nodes += [{"node-name": f"n{k}", "driver": "quorum", "children": [f"n{k - 1}"] * 2} for k in range(1, 60)]
    drives = [{"id": "a", "image": {"blockdev": {"driver": "raw", "file": "n59"}}, "device": "x"}]
    written(registry, "one", json.dumps({"vm": "one", "drives": {"drives": drives, "nodes": nodes}}))
    assert [(each.drive, each.path) for each in vm_definitions.named_files()] == [("a", "/a")]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"vm": "a", "drives": 1}', '{"vm": "a", "drives": {"drives": [1]}}'])
def test_what_cannot_be_read_is_refused(registry: Path, text: str) -> None:
    file = written(registry, "one", text)
    with pytest.raises(errors.RefusedError) as caught:
        vm_definitions.named_files()
    assert (caught.value.reason, caught.value.facts["evidence"]) == ("definition_unreadable", {"path": str(file)})


def test_no_registry_names_nothing(registry: Path) -> None:
    registry.rmdir()
    assert vm_definitions.named_files() == []
