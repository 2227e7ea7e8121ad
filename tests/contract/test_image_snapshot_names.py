"""Names that QEMU would cut, take for something else, or that mean two snapshots; options that contradict each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import qemu_img
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, disk, names_in

BAD = ["", "1", "0042", "x" * 256, "ä" * 128, "a\nb", " a", "a ", "\x7f"]
GOOD = [
    "x",
    "x" * 255,
    "ä" * 127,
    "1a",
    "before upgrade",
    "-c",
    "a,b=c",
    "a/b",
    "$(x)",
    "'",
    '"',
    "json:{}",
    "..",
    "%s",
]


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("kind", ["internal", "external"])
def test_bad_names_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    disk(tmp_path, kind).refuses("bad_name", name=name)


@pytest.mark.parametrize("name", GOOD)
def test_any_other_name_means_itself(tmp_path: Path, name: str) -> None:
    one = disk(tmp_path)
    one.take(name)
    one.write(3)
    one.beats(name=name, state="reverted", save=False)
    assert one.now() == one.then[name]
    assert names_in(one.active) == [name]
    one.beats(name=name, state="absent")
    assert names_in(one.active) == []


@pytest.mark.parametrize("name", [name for name in GOOD if "/" not in name and len(name.encode()) <= 200])
@pytest.mark.parametrize("switch", ["none", "rename"])
def test_any_other_name_is_a_part_of_a_file_name(tmp_path: Path, name: str, switch: str) -> None:
    one = disk(tmp_path, "external", switch)
    one.take(name)
    one.write(3)
    one.sound(name)
    one.beats(name=name, state="reverted", save=False)
    assert one.now() == one.then[name]


@pytest.mark.parametrize("name", ["a/b", "x" * 201])
def test_what_cannot_be_a_file_name_is_refused(tmp_path: Path, name: str) -> None:
    disk(tmp_path, "external").refuses("bad_name", name=name)


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "x" * 249])
def test_what_is_kept_gets_no_name_that_qemu_would_cut(tmp_path: Path, name: str) -> None:
    one = disk(tmp_path)
    one.take(name)
    one.write(3)
    assert one.refuses("bad_name", name=name, state="reverted")["evidence"]["name"] == name + ".undone"
    one.then["before"] = one.now()
    one.beats(name=name, state="reverted", save_as="before")
    one.sound(name, "before")


@pytest.mark.parametrize("switch", ["none", "rename"])
def test_no_file_gets_a_name_that_is_too_long(tmp_path: Path, switch: str) -> None:
    """With room for what is added to it: its record, where there are no attributes."""
    one = disk(tmp_path, "external", switch)
    one.image = one.active = one.image.rename(one.image.with_name("w" * 40 + ".qcow2"))
    one.refuses("bad_name", name="x" * 186)
    one.take("x" * 185)
    one.write(3)
    one.refuses("bad_name", name="x" * 185, state="reverted")
    if switch == "none":
        one.refuses("bad_name", name="short", overlay=str(tmp_path / ("x" * 233)))
    one.then["before"] = one.now()
    one.beats(name="x" * 185, state="reverted", save_as="before")
    one.sound("x" * 185, "before")


def test_two_of_one_name_are_not_chosen_from(tmp_path: Path) -> None:
    one = disk(tmp_path)
    for _each in range(2):
        qemu_img("snapshot", "-c", "twin", one.active)
    for state in ("present", "absent", "reverted"):
        result = one.refuses("ambiguous_snapshot", name="twin", state=state)
        assert [each["id"] for each in result["evidence"]["snapshots"]] == ["1", "2"]
    one.refuses("ambiguous_snapshot", state="pruned", retention={"keep_last": 1})
    one.take("other")


def test_a_name_that_is_an_id_is_not_chosen_from(tmp_path: Path) -> None:
    one = disk(tmp_path)
    one.take("first")
    qemu_img("snapshot", "-c", "1", one.active)
    one.refuses("bad_name", name="1", state="absent")
    one.settled(name="first")
    one.refuses("ambiguous_snapshot", state="pruned", match="*", retention={"max_age": "0"}, **older(one))


def older(one: Disk) -> dict[str, Any]:
    """One more, so that it is not the newest that has the name."""
    one.beats(name="last")
    return {}


CONTRADICTIONS: list[dict[str, Any]] = [
    {},
    {"name": "a", "format": "raw"},
    {"name": "a", "state": "committed"},
    {"name": "a", "state": "streamed"},
    {"name": "a", "switch": "rename"},
    {"name": "a", "relative": True},
    {"name": "a", "overlay": "/x"},
    {"state": "absent"},
    {"state": "reverted"},
    {"state": "pruned"},
    {"state": "pruned", "name": "a", "retention": {"keep_last": 1}},
    {"state": "pruned", "retention": {"keep_last": -1}},
    {"state": "pruned", "retention": {"keep_last": 0}},
    {"state": "pruned", "retention": {"keep_last": 0, "keep_daily": 7}},
    {"state": "pruned", "retention": {"keep_hourly": 0, "keep_daily": 0}},
    {"state": "pruned", "retention": {"max_depth": 3}},
    {"state": "pruned", "retention": {"keep_last": 3, "max_depth": 3}},
    {"state": "pruned", "retention": {"max_age": "soon"}},
    {"state": "pruned", "kind": "external", "retention": {"max_depth": 0}},
    {"name": "a", "retention": {"keep_last": 1}},
    {"name": "a", "save_as": "b"},
    {"name": "a", "save": False},
    {"name": "a", "state": "reverted", "save": False, "save_as": "b"},
    {"name": "a", "state": "reverted", "save_as": "a"},
    {"name": "a", "state": "absent", "bitmaps": [{"name": "a"}]},
    {"name": "a", "kind": "external", "bitmaps": [{"name": "a"}]},
    {"name": "a", "quiesce": "try"},
    {"name": "a", "memory": True},
    {"name": "a", "memory": True, "qmp_socket": "/x", "kind": "external"},
    {"bitmaps": [{"name": "a", "sources": ["a"]}]},
    {"bitmaps": [{"name": "a", "sources": ["b"], "state": "absent"}]},
]


@pytest.mark.parametrize("options", CONTRADICTIONS, ids=str)
def test_contradictions_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    disk(tmp_path).refuses("bad_option", **options)


@pytest.mark.parametrize(
    ("reason", "image"), [("bad_path", "relative.qcow2"), ("place_not_writable", "nbd://host/export")]
)
def test_the_image_is_a_file_of_this_host(reason: str, image: str) -> None:
    for check in (True, False):
        result = call("image_snapshot", check=check, image=image, format="qcow2", name="a")
        assert (result.get("failed"), result.get("reason")) == (True, reason), result
