"""Many images in one task; images that somebody uses; two runs at once."""

from __future__ import annotations

import json
import shutil
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._tools.locks import ImageLocks
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, snapshot
from ansible_collections.platter.qemu.tests.lab.between import between_all
from ansible_collections.platter.qemu.tests.lab.machine import machine
from ansible_collections.platter.qemu.tests.lab.modules import call, process
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.programs import exported
from ansible_collections.platter.qemu.tests.lab.qemu import qcow2
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, disk, names_in


def images(place: Path, number: int) -> list[Path]:
    place.mkdir(exist_ok=True)
    return [create(place / f"vm{each}.qcow2", "qcow2", "1M") for each in range(number)]


def entries(paths: list[Path], **options: Any) -> dict[str, Any]:
    return {"format": "qcow2", "name": "s1", "snapshots": [{"image": str(path)} for path in paths], **options}


@pytest.mark.parametrize("kind", ["internal", "external"])
def test_many_images_in_one_task(tmp_path: Path, kind: str) -> None:
    paths = images(tmp_path / "images", 12)
    result = four_beats(**entries(paths, kind=kind))
    assert len(result["actions"]) == len(result["snapshots"]) == len(result["diff"]) == 12
    assert [each["snapshot"]["image"] for each in result["snapshots"]] == list(map(str, paths))
    if kind == "internal":
        assert all(names_in(path) == ["s1"] for path in paths)


def test_an_entry_takes_from_the_task_what_it_leaves_unset(tmp_path: Path) -> None:
    one, two = images(tmp_path / "images", 2)
    four_beats(format="qcow2", name="all", snapshots=[{"image": str(one)}, {"image": str(two), "name": "mine"}])
    assert (names_in(one), names_in(two)) == (["all"], ["mine"])
    absent = {"image": str(two), "name": "mine", "state": "absent"}
    four_beats(format="qcow2", name="next", snapshots=[{"image": str(one)}, absent])
    assert (names_in(one), names_in(two)) == (["all", "next"], [])


def test_one_refusal_stops_all(tmp_path: Path) -> None:
    paths = images(tmp_path / "images", 3)
    task = entries([*paths, tmp_path / "images" / "missing.qcow2"])
    before = snapshot(map(str, paths))
    result = refused("image_missing", **task)
    assert [bool(each.get("failed")) for each in result["snapshots"]] == [False, False, False, True]
    assert snapshot(map(str, paths)) == before


def test_the_others_are_done_all_the_same_when_asked(tmp_path: Path) -> None:
    paths = images(tmp_path / "images", 3)
    task = entries([paths[0], tmp_path / "images" / "missing.qcow2", *paths[1:]], fail_fast=False)
    checked, real = (call("image_snapshot", check=check, **task) for check in (True, False))
    for result in (checked, real):
        assert (result["failed"], result["changed"], result["reason"]) == (True, True, "image_missing")
        assert [each["changed"] for each in result["snapshots"]] == [True, False, True, True]
    assert checked["actions"] == real["actions"]
    assert all(names_in(path) == ["s1"] for path in paths)


@pytest.mark.parametrize("kind", ["internal", "external"])
def test_one_disk_by_two_names_is_refused(tmp_path: Path, kind: str) -> None:
    (path,) = images(tmp_path / "images", 1)
    link = path.with_name("link.qcow2")
    link.symlink_to(path)
    task = entries([path, link], kind=kind, switch="symlink" if kind == "external" else "none")
    result = call("image_snapshot", **task)
    assert result["failed"] and result["reason"] in ("duplicate_item", "no_symlink"), result
    assert refused("duplicate_item", **entries([path, path], kind=kind))


def test_the_task_names_one_image_or_lists_some(tmp_path: Path) -> None:
    (path,) = images(tmp_path / "images", 1)
    both = call("image_snapshot", **entries([path]), image=str(path))
    assert both["failed"] and "mutually exclusive" in both["msg"]
    neither = call("image_snapshot", format="qcow2", name="s1")
    assert neither["failed"] and "one of the following" in neither["msg"]


# --- images that somebody uses


@pytest.mark.parametrize(
    "options",
    [
        {"name": "s2"},
        {"name": "s1", "state": "absent"},
        {"name": "s1", "state": "reverted"},
        {"bitmaps": [{"name": "a"}]},
        {"state": "pruned", "retention": {"keep_last": 1}},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["internal", "external"])
def test_what_qemu_uses_is_not_changed(tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    one = disk(tmp_path, kind, "rename" if kind == "external" else "none")
    for name in ("s0", "s1"):
        one.take(name)
        one.write(3)
    with exported(one.active, "qcow2", tmp_path / "socket") as process:
        result = one.refuses("image_in_use", **options)
        assert process.pid in [holder.get("pid") for holder in result["evidence"]["in_use_by"]]
        one.settled(name="s1")
        skipped = call("image_snapshot", **one.task(**options, on_in_use="skip"))
        assert (skipped["changed"], skipped["skipped_reason"]) == (False, "image_in_use")


def test_a_user_is_waited_for(tmp_path: Path) -> None:
    one = disk(tmp_path)
    found: dict[str, Any] = {}
    with exported(one.active, "qcow2", tmp_path / "socket"):
        task = one.task(name="s1", on_in_use="wait", wait_timeout=120)
        waiter = threading.Thread(target=lambda: found.update(_process(task)))
        waiter.start()
        time.sleep(1)  # nothing tells from outside that it waits
        assert names_in_use(one) == []
    waiter.join()
    assert found["changed"] and names_in(one.active) == ["s1"]


def test_the_wait_ends(tmp_path: Path) -> None:
    one = disk(tmp_path)
    with exported(one.active, "qcow2", tmp_path / "socket"):
        begun = time.monotonic()
        result = call("image_snapshot", **one.task(name="s1", on_in_use="wait", wait_timeout=1))
        assert result["reason"] == "image_in_use"
        assert 1 <= time.monotonic() - begun < 60


def _process(task: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(process("image_snapshot", **task).communicate()[0].splitlines()[-1]))


def names_in_use(one: Disk) -> list[str]:
    """Read from the file itself, as qemu-img may not open it."""
    return [] if int.from_bytes(one.active.read_bytes()[60:64], "big") == 0 else ["some"]


# --- two runs at once


@pytest.mark.parametrize("kind", ["internal", "external"])
def test_another_run_is_waited_for_and_not_for_ever(tmp_path: Path, kind: str) -> None:
    one = disk(tmp_path, kind)
    with ImageLocks([str(one.image)], (), 1):
        begun = time.monotonic()
        result = call("image_snapshot", **one.task(name="s1", lock_timeout=1))
        assert (result["failed"], result["reason"]) == (True, "lock_timeout"), result
        assert time.monotonic() - begun < 60
        assert call("image_snapshot", check=True, **one.task(name="s1", lock_timeout=1))["changed"]
    one.take("s1")


def test_two_images_of_one_name_get_files_of_their_own(tmp_path: Path) -> None:
    """Both are links into one directory."""
    paths = images(tmp_path / "pool", 2)
    links = [tmp_path / str(number) / "disk.qcow2" for number in range(2)]
    for link, path in zip(links, paths):
        link.parent.mkdir()
        link.symlink_to(path)
    result = four_beats(**entries(links, kind="external", switch="symlink"))
    made = [each["snapshot"]["active"] for each in result["snapshots"]]
    assert made == [str(tmp_path / "pool" / name) for name in ("disk.s1.qcow2", "disk.s1-2.qcow2")]


def test_one_overlay_is_not_made_for_two_images(tmp_path: Path) -> None:
    paths = images(tmp_path / "images", 2)
    both = {"snapshots": [{"image": str(path), "overlay": str(tmp_path / "images/top")} for path in paths]}
    assert "overlay_exists" in json.dumps(refused("overlay_exists", **dict(entries(paths, kind="external"), **both)))


@pytest.mark.parametrize("kind", ["external", "internal"])
def test_images_of_one_vm_name_the_one_for_which_nothing_was_taken(tmp_path: Path, kind: str) -> None:
    """The first is fine, for the second QEMU refuses the step that both have in common."""
    paths = images(tmp_path / "images", 2)
    closed = qcow2("n1", paths[1], read_only=True)
    with machine(tmp_path / "qmp", paths[0], closed):
        if kind == "external":  # whether QEMU takes it or not: the overlay finds no place
            (tmp_path / "elsewhere").mkdir()
            given = {"overlay": str(tmp_path / "elsewhere" / "b.qcow2")}
            taken = partial(shutil.rmtree, tmp_path / "elsewhere")
        else:
            given, taken = {}, partial(int)
        task = entries(paths, kind=kind, qmp_socket=str(tmp_path / "qmp"))
        task["snapshots"][1].update(given)
        items = between_all(taken, *({**task, **each} for each in task["snapshots"]))
    assert all(item.error and not item.done for item in items)
    fine, refused = (item.error.message for item in items)
    assert f"It was one step for all images of the VM, and failed because of {paths[1]}: " in fine
    assert "It was one step" not in refused
    assert [names_in(path) for path in paths] == [[], []]
    assert sorted(each.name for each in paths[0].parent.iterdir()) == [path.name for path in paths]
