"""Many images in one task: order, shared options, one refusal, results of each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled, snapshot
from ansible_collections.platter.qemu.tests.lab.guest import MIB, facts, scribble, shows
from ansible_collections.platter.qemu.tests.lab.http_server import Resource, serving
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def chain(directory: Path, order: str) -> list[dict[str, Any]]:
    """Images a, b over a, c over b, d over c, listed in that order."""
    entries: dict[str, dict[str, Any]] = {"a": {"path": str(directory / "a"), "size": "4M"}}
    for below, name in zip("abc", "bcd"):
        entries[name] = {"path": str(directory / name), "backing": {"path": str(directory / below), "format": "qcow2"}}
    return [entries[name] for name in order]


@pytest.mark.parametrize("order", ["abcd", "dcba", "cadb", "bdac"])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_bases_come_before_their_overlays_whatever_the_order(tmp_path: Path, order: str, workers: int) -> None:
    result = four_beats(format="qcow2", workers=workers, images=chain(tmp_path, order))
    assert [os.path.basename(entry["image"]["path"]) for entry in result["images"]] == list(order)
    assert all(entry["changed"] and entry["image"]["virtual_size"] == 4 * MIB for entry in result["images"])
    told = facts(tmp_path / "d", "qcow2")
    assert told["backing-filename"] == str(tmp_path / "c")


def test_an_image_is_made_from_one_that_the_same_task_imports(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    source = create(tmp_path / "in" / "vendor.vmdk", "vmdk", "4M")
    scribble(source, "vmdk")
    golden, copy, vm = (str(tmp_path / name) for name in ("golden.qcow2", "copy.vhdx", "vm.qcow2"))
    images = [
        {"path": vm, "format": "qcow2", "size": "9M", "backing": {"path": golden, "format": "qcow2"}},
        {"path": copy, "format": "vhdx", "source": {"path": golden, "format": "qcow2"}},
        {"path": golden, "format": "qcow2", "source": {"path": str(source), "format": "vmdk"}},
    ]
    four_beats(images=images)
    shows(vm, "qcow2")
    shows(copy, "vhdx")


def test_a_copy_follows_what_the_same_task_imports_again(tmp_path: Path) -> None:
    """In the same run; one that is to stay does, and one whose source is only given another mode."""
    (tmp_path / "in").mkdir()
    source = create(tmp_path / "in" / "source.raw", "raw", "4M")
    golden, copy, kept = (str(tmp_path / name) for name in ("golden", "copy", "kept"))
    made: dict[str, Any] = {"path": copy, "source": {"path": golden, "format": "qcow2"}}
    again = {"source_policy": "if_changed"}
    images = [
        {**made, **again},
        {**made, "path": kept},
        {"path": golden, "source": {"path": str(source), "format": "raw"}, **again},
    ]
    four_beats(format="qcow2", images=images)
    scribble(source, "raw")
    result = four_beats(format="qcow2", images=images)
    assert [entry["changed"] for entry in result["images"]] == [True, False, True]
    assert result["images"][0]["actions"][0].endswith("replacing the image there: this task changes the source.")
    shows(copy, "qcow2")
    images[2]["mode"] = "0640"
    result = four_beats(format="qcow2", images=images)
    assert [entry["changed"] for entry in result["images"]] == [False, False, True]


@pytest.mark.parametrize("order", ["abcd", "dcba", "bdac"])
def test_a_whole_chain_is_removed(tmp_path: Path, order: str) -> None:
    prepared("disk_image", format="qcow2", images=chain(tmp_path, "abcd"))
    result = four_beats(state="absent", images=[{"path": str(tmp_path / name)} for name in order])
    assert len(result["actions"]) == 4
    assert names(tmp_path) == []


def test_a_base_goes_when_its_overlay_is_flattened_in_the_same_task(tmp_path: Path) -> None:
    prepared("disk_image", format="qcow2", images=chain(tmp_path, "ab"))
    images = [
        {"path": str(tmp_path / "a"), "state": "absent"},
        {"path": str(tmp_path / "b"), "format": "qcow2", "flatten": True},
    ]
    four_beats(images=images)
    assert names(tmp_path) == ["b"]
    assert "backing-filename" not in facts(tmp_path / "b", "qcow2")


def test_what_an_entry_leaves_out_is_taken_from_the_task(tmp_path: Path) -> None:
    images: list[dict[str, Any]] = [
        {"path": str(tmp_path / "a")},
        {"path": str(tmp_path / "b"), "size": "8M", "mode": "0644"},
        {"path": str(tmp_path / "c"), "format": "raw", "options": {}},
    ]
    four_beats(format="qcow2", size="4M", mode="0640", images=images)
    assert [facts(tmp_path / n, f)["virtual-size"] for n, f in (("a", "qcow2"), ("b", "qcow2"), ("c", "raw"))] == [
        4 * MIB,
        8 * MIB,
        4 * MIB,
    ]
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in "abc"] == [0o640, 0o644, 0o640]


def test_an_entry_says_no_to_what_the_task_says(tmp_path: Path) -> None:
    for name in "ab":
        create(tmp_path / name, "qcow2", "8M")
    images: list[dict[str, Any]] = [{"path": str(tmp_path / "a")}, {"path": str(tmp_path / "b"), "allow_shrink": False}]
    refused("shrink_refused", format="qcow2", size="4M", allow_shrink=True, images=images)


def test_a_source_that_the_task_makes_in_another_format_is_refused(tmp_path: Path) -> None:
    source = {"path": str(tmp_path / "source"), "format": "raw", "size": "1M"}
    copy = {"path": str(tmp_path / "copy"), "format": "qcow2", "source": {"path": source["path"], "format": "qcow2"}}
    told = refused("format_mismatch", images=[source, copy])
    assert told["images"][1]["evidence"] == {"asked": "qcow2", "found": ["raw"]}
    four_beats(images=[source, {**copy, "source": {"path": source["path"], "format": "raw"}}])


def test_one_refusal_stops_all(tmp_path: Path) -> None:
    create(tmp_path / "there", "qcow2", "8M")
    images = [{"path": str(tmp_path / name)} for name in ("new", "there", "other")]
    result = refused("shrink_refused", format="qcow2", size="4M", images=images)
    assert str(tmp_path / "there") in result["msg"]
    assert [entry["changed"] for entry in result["images"]] == [False] * 3
    assert [entry.get("reason") for entry in result["images"]] == [None, "shrink_refused", None]
    assert result["actions"] == []


def test_several_refusals_are_counted_and_named(tmp_path: Path) -> None:
    create(tmp_path / "b", "qcow2", "8M")
    images: list[dict[str, Any]] = [{"path": str(tmp_path / name)} for name in "abc"]
    images[1].update(size="4M")
    for fail_fast in (True, False):
        result = refused("size_missing", format="qcow2", images=images, fail_fast=fail_fast)
        listed = f"{tmp_path}/a (size_missing), {tmp_path}/b (shrink_refused), {tmp_path}/c (size_missing). The first: "
        assert result["msg"].startswith(f"refused: 3 of 3 images: {listed}refused: a qcow2 image at")


def test_a_long_list_of_refusals_ends(tmp_path: Path) -> None:
    images = [{"path": f"{tmp_path}/{number}"} for number in range(30)]
    result = refused("size_missing", format="qcow2", images=images)
    assert f"{tmp_path}/9 (size_missing), and 20 more. The first: " in result["msg"]


def test_a_failure_is_told_beside_refusals(tmp_path: Path) -> None:
    create(tmp_path / "b", "qcow2", "8M")
    images: list[dict[str, Any]] = [{"path": f"{tmp_path}/b", "size": "4M"}, {"path": f"{tmp_path}/a" + "x" * 300}]
    result = call("disk_image", format="qcow2", size="4M", images=images, fail_fast=False)
    assert result["msg"].startswith(f"refused or failed: 2 of 2 images: {tmp_path}/b (shrink_refused), {tmp_path}/axx")


@pytest.mark.parametrize("check", [True, False])
def test_a_list_without_images_is_done(check: bool) -> None:
    result = call("disk_image", check=check, format="qcow2", size="1M", images=[])
    assert (result.get("failed"), result["changed"], result["images"], result["actions"]) == (None, False, [], [])


@pytest.mark.parametrize("check", [True, False])
def test_the_others_are_done_when_the_task_says_so(tmp_path: Path, check: bool) -> None:
    create(tmp_path / "there", "qcow2", "8M")
    images = [{"path": str(tmp_path / name)} for name in ("new", "there", "other")]
    before = snapshot([str(tmp_path)])
    result = call("disk_image", check=check, format="qcow2", size="4M", fail_fast=False, images=images)
    assert (result["failed"], result["changed"], result["reason"]) == (True, True, "shrink_refused")
    assert [entry["changed"] for entry in result["images"]] == [True, False, True]
    assert len(result["actions"]) == 2
    if check:
        assert snapshot([str(tmp_path)]) == before
    else:
        assert names(tmp_path) == ["new", "other", "there"]
        assert facts(tmp_path / "there", "qcow2")["virtual-size"] == 8 * MIB


def test_what_needs_a_refused_image_is_refused_too(tmp_path: Path) -> None:
    images = chain(tmp_path, "cba")
    del images[2]["size"]
    result = call("disk_image", format="qcow2", fail_fast=False, images=images)
    assert [entry["reason"] for entry in result["images"]] == ["needs_refused", "needs_refused", "size_missing"]
    assert (result["failed"], result["changed"]) == (True, False)
    assert names(tmp_path) == []


@pytest.mark.parametrize("other", ["{0}/a", "{0}//a", "{0}/./a", "{0}/link"])
def test_an_image_that_is_listed_twice_is_refused(tmp_path: Path, other: str) -> None:
    create(tmp_path / "a", "qcow2", "4M")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    images = [{"path": str(tmp_path / "a")}, {"path": other.format(tmp_path)}]
    refused("duplicate_item", format="qcow2", size="4M", images=images)


@pytest.mark.parametrize("other", ["its data file", "an image on it"])
def test_a_data_file_is_of_one_image_and_none_itself(tmp_path: Path, other: str) -> None:
    """By whatever name: the directory has another one."""
    (tmp_path / "link").symlink_to(tmp_path)
    on_it = {"path": str(tmp_path / "a"), "format": "qcow2", "options": {"data_file": str(tmp_path / "link" / "data")}}
    same = {"path": str(tmp_path / "data"), "format": "raw"}
    shared = {"path": str(tmp_path / "b"), "format": "qcow2", "options": {"data_file": str(tmp_path / "data")}}
    refused("duplicate_item", size="4M", images=[on_it, same if other == "its data file" else shared])


def test_images_that_need_each_other_are_refused(tmp_path: Path) -> None:
    images = [
        {"path": str(tmp_path / mine), "backing": {"path": str(tmp_path / other), "format": "qcow2"}}
        for mine, other in ("ab", "ba")
    ]
    refused("backing_loop", format="qcow2", size="4M", images=images)


def test_a_base_shared_by_many_is_made_once(tmp_path: Path) -> None:
    base = {"path": str(tmp_path / "base"), "size": "4M"}
    overlays = [
        {"path": str(tmp_path / f"vm{n}"), "backing": {"path": base["path"], "format": "qcow2"}} for n in range(30)
    ]
    result = four_beats(format="qcow2", images=[*overlays, base])
    assert len(result["actions"]) == 31
    assert all(facts(overlay["path"], "qcow2")["backing-filename"] == base["path"] for overlay in overlays)


def test_an_empty_list_changes_nothing() -> None:
    result = call("disk_image", format="qcow2", images=[])
    assert not result.get("changed")


def test_path_and_images_exclude_each_other(tmp_path: Path) -> None:
    both = {"path": str(tmp_path / "a"), "images": [{"path": str(tmp_path / "b")}]}
    assert call("disk_image", format="qcow2", size="4M", **both)["failed"]
    assert call("disk_image", format="qcow2", size="4M")["failed"]
    assert names(tmp_path) == []


def test_only_what_differs_is_changed(tmp_path: Path) -> None:
    images = [{"path": str(tmp_path / name)} for name in "abc"]
    prepared("disk_image", format="qcow2", size="4M", images=images)
    (tmp_path / "b").unlink()
    result = four_beats(format="qcow2", size="4M", images=images)
    assert [entry["changed"] for entry in result["images"]] == [False, True, False]
    settled(format="qcow2", size="4M", images=list(reversed(images)))


def test_two_names_of_one_file_are_one_image(tmp_path: Path) -> None:
    first, second = tmp_path / "first.raw", tmp_path / "second.raw"
    first.write_bytes(bytes(1 << 20))
    second.hardlink_to(first)
    images = [{"path": str(path), "format": "raw", "size": "2M"} for path in (first, second)]
    told = refused("duplicate_item", images=images)
    assert f"the same file as {first}" in told["msg"]
    assert (first.stat().st_size, second.stat().st_ino) == (1 << 20, first.stat().st_ino)


@pytest.mark.parametrize("fail_fast", [True, False])
def test_what_is_told_of_a_failed_list_is_what_is_there(tmp_path: Path, fail_fast: bool) -> None:
    """The source is found damaged when its data is read, and what was to be built on it is not begun."""
    source = create(tmp_path / "source", "qcow2", "4M")
    scribble(source, "qcow2")
    os.truncate(source, source.stat().st_size * 2 // 3)
    low, top = {"path": str(tmp_path / "low")}, {"path": str(tmp_path / "top")}
    images = [
        {**low, "source": {"path": str(source), "format": "qcow2"}},
        {**top, "backing": {"path": low["path"], "format": "qcow2"}, "size": "8M"},
    ]
    result = call("disk_image", format="qcow2", images=images, fail_fast=fail_fast)
    assert (result["reason"], names(tmp_path)) == ("source_damaged", ["source"])
    assert [entry["image"] for entry in result["images"]] == [{**each, "state": "absent"} for each in (low, top)]


@pytest.mark.parametrize("fail_fast", [True, False])
def test_a_failure_in_the_middle_tells_what_was_done(tmp_path: Path, fail_fast: bool) -> None:
    """That nothing was changed is said of the one image only."""
    source = create(tmp_path / "source", "qcow2", "4M")
    scribble(source, "qcow2")
    os.truncate(source, source.stat().st_size * 2 // 3)
    new, low, top = (f"{tmp_path}/{name}" for name in ("new", "low", "top"))
    images: list[dict[str, Any]] = [
        {"path": new, "size": "4M"},
        {"path": low, "source": {"path": str(source), "format": "qcow2"}},
        {"path": top, "backing": {"path": new, "format": "qcow2"}},
    ]
    result = call("disk_image", format="qcow2", images=images, fail_fast=fail_fast)
    told = f"Changed: {new}. Not begun: {top}. " if fail_fast else f"Changed: {new}, {top}. "
    said = f"failed: 1 of 3 images: {low} (source_damaged). {told}The first: refused: "
    assert result["changed"] and result["msg"].startswith(said), result["msg"]
    assert "Nothing was changed there." in result["msg"] and "Nothing was changed. " not in result["msg"]


@pytest.mark.parametrize("order", ["old new", "new old", "old new more", "more old new"])
def test_a_source_is_removed_after_what_is_made_from_it(tmp_path: Path, order: str) -> None:
    create(tmp_path / "old", "raw", MIB)
    scribble(tmp_path / "old", "raw", ((0x55, 0, 4096),))
    source = {"path": str(tmp_path / "old"), "format": "raw"}
    entries = {name: {"path": str(tmp_path / name), "format": "qcow2", "source": source} for name in ("new", "more")}
    entries["old"] = {"path": str(tmp_path / "old"), "format": "raw", "state": "absent"}
    wanted = order.split()
    result = call("disk_image", images=[entries[name] for name in wanted])
    assert not result.get("failed"), result["msg"]
    assert names(tmp_path) == sorted(set(wanted) - {"old"})
    for name in names(tmp_path):
        shows(tmp_path / name, "qcow2", ((0x55, 0, 4096),))


class Trap(list[Any]):
    """Requests; at the first that wants the content, the trap springs."""

    def __init__(self, spring: Callable[[], object]) -> None:
        super().__init__()
        self._spring = spring

    def append(self, request: Any) -> None:
        if request.method == "GET" and not any(each.method == "GET" for each in self):
            self._spring()
        super().append(request)


def test_a_source_that_has_grown_since_the_plan_is_not_cut_off(tmp_path: Path) -> None:
    create(tmp_path / "source", "raw", MIB)
    create(tmp_path / "larger", "raw", 2 * MIB)
    with serving() as site:
        site.asked = Trap(lambda: os.replace(tmp_path / "larger", tmp_path / "source"))
        site.resources["/first"] = Resource(bytes(MIB))
        first = {"path": str(tmp_path / "first"), "source": {"url": site.url("/first"), "format": "raw"}}
        second = {"path": str(tmp_path / "second"), "source": {"path": str(tmp_path / "source"), "format": "raw"}}
        result = call("disk_image", format="raw", images=[first, second])
    assert not (tmp_path / "larger").exists(), "the trap did not spring"
    assert result["images"][1]["reason"] == "source_changed"
    assert not (tmp_path / "second").exists()
