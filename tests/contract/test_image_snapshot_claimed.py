"""What the snapshots of a disk are for VMs that are defined and do not run: nobody has their images open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._inspect import vm_definitions
from ansible_collections.platter.qemu.tests.lab.defined import define, define_on, give_up, is_based, node, own_registry
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, disk, held


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return own_registry(tmp_path, monkeypatch)


def clone_of(path: Any, tmp_path: Path, middle: bool = False) -> Path:
    """An overlay in another directory; with C(middle) on one in a third."""
    for name in ["middle", "clones"] if middle else ["clones"]:
        (tmp_path / name).mkdir()
        path = create(tmp_path / name / "clone.qcow2", "qcow2", "", "", "-b", path, "-F", "qcow2")
    return Path(path)


def two(tmp_path: Path, switch: str = "none") -> Disk:
    """A disk with two snapshots, written to before and after each."""
    one = disk(tmp_path, "external", switch)
    for byte, name in enumerate(("s1", "s2"), 3):
        one.take(name)
        one.write(byte)
    return one


def keeps(one: Disk, clone: Path, reason: str = "has_overlays", **options: Any) -> dict[str, Any]:
    """The task is refused, in check mode too, and both disks are as they were."""
    seen = (one.now(), held(clone))
    refusal = one.refuses(reason, watch=[clone.parent], **options)
    assert (one.now(), held(clone)) == seen
    return refusal


@pytest.mark.parametrize(
    "change",
    [
        {"name": "new"},
        {"name": "old", "state": "absent"},
        {"name": "old", "state": "reverted"},
        {"bitmaps": [{"name": "daily"}]},
    ],
    ids=str,
)
def test_a_base_of_a_stopped_vm_has_no_internal_snapshots(tmp_path: Path, change: dict[str, Any]) -> None:
    one = disk(tmp_path)
    one.take("old")
    one.write(3)
    clone = clone_of(one.image, tmp_path)
    options = define(tmp_path, clone)
    assert keeps(one, clone, **change)["evidence"] == {"overlays": [str(clone)]}
    one.settled(name="old")
    give_up(options)
    one.beats(**change)


@pytest.mark.parametrize("change", [{"name": "new"}, {"name": "old", "state": "absent"}], ids=str)
def test_a_base_that_only_a_definition_names_has_no_internal_snapshots(tmp_path: Path, change: dict[str, Any]) -> None:
    one = disk(tmp_path)
    one.take("old")
    one.write(3)
    vm, overlay = define_on(tmp_path, one.image)
    is_based(keeps(one, overlay, "image_claimed", **change), vm, one.image, overlay)
    one.settled(name="old")
    give_up(vm)
    one.beats(**change)


@pytest.mark.parametrize("change", [{"name": "s1", "state": "committed"}, {"name": "s1", "state": "reverted"}], ids=str)
def test_a_layer_that_only_a_definition_names_as_a_base_is_not_changed(tmp_path: Path, change: dict[str, Any]) -> None:
    """Another VM has the lower file below an image of its own, or the disk of now, which would get another name."""
    one = two(tmp_path, "none" if change["state"] == "committed" else "rename")
    base = one.points()["s1"] if change["state"] == "committed" else one.active
    one.more = {"image": str(one.active)}
    vm, overlay = define_on(tmp_path, base)
    is_based(keeps(one, overlay, "image_claimed", **change), vm, base, overlay)
    give_up(vm)
    one.beats(**change)


def test_the_vm_of_the_disk_may_say_what_its_layers_are(tmp_path: Path) -> None:
    one = two(tmp_path)
    points = one.points()
    lower = node("qcow2", points["s2"], backing=node("qcow2", points["s1"]))
    define(tmp_path, node("qcow2", one.active, backing=lower))
    one.beats(name="s2", state="committed")
    assert "define that drive anew" in str(one.result["warnings"])


@pytest.mark.parametrize("state", ["absent", "streamed"])
def test_a_point_on_which_a_stopped_vm_is_built_is_not_merged(tmp_path: Path, state: str) -> None:
    one = two(tmp_path)
    clone = clone_of(one.points()["s1"], tmp_path, middle=True)
    define(tmp_path, clone)
    one.more = {"image": str(one.active)}
    refusal = keeps(one, clone, name="s1", state=state)
    assert refusal["evidence"] == {"overlays": [str(tmp_path / "middle" / "clone.qcow2")]}
    assert "name their directory in overlay_directories" in refusal["msg"]
    one.more = {}
    one.beats(name="s2", state="absent")


def test_a_merge_goes_around_a_stopped_vm_whose_directory_is_named(tmp_path: Path) -> None:
    one = two(tmp_path)
    clone = clone_of(one.points()["s2"], tmp_path)
    define(tmp_path, clone)
    keeps(one, clone, name="s2", state="absent")
    seen = (one.now(), held(clone))
    one.beats(name="s2", state="absent", overlay_directories=[str(clone.parent)])
    assert (one.now(), held(clone)) == seen


@pytest.mark.parametrize("change", [{"name": "s1", "state": "reverted"}, {"name": "s3"}], ids=str)
def test_the_disk_of_now_is_not_moved_away_under_a_stopped_vm(tmp_path: Path, change: dict[str, Any]) -> None:
    one = two(tmp_path, "rename")
    clone = clone_of(one.active, tmp_path)
    define(tmp_path, clone)
    assert keeps(one, clone, **change)["evidence"] == {"overlays": [str(clone)]}


def test_the_file_of_a_point_with_which_a_vm_is_defined_stays(tmp_path: Path) -> None:
    one = disk(tmp_path, "external", "rename")
    one.take("s1")
    one.write(3)
    one.beats(name="s1", state="reverted", save_as="left")
    left = one.points()["left"]
    options = define(tmp_path, left)
    refusal = one.refuses("image_claimed", name="left", state="absent")
    assert refusal["evidence"] == {"vm": "web1", "config": options["config"], "drive": "system", "place": str(left)}
    assert "its file %s is drive system of VM web1 (defined in %s)" % (left, options["config"]) in refusal["msg"]
    give_up(options)
    one.beats(name="left", state="absent")


@pytest.mark.parametrize("way", ["committed", "streamed"])
@pytest.mark.parametrize("switch", ["none", "rename"])
def test_no_layer_goes_with_which_a_vm_is_defined(tmp_path: Path, switch: str, way: str) -> None:
    """Of the two layers of a merge the upper one goes, or the lower one, or its name."""
    one = two(tmp_path, switch)
    points = one.points()
    gone = points["s1" if way == "streamed" else "s2"]
    options = define(tmp_path, gone, read_only=True)
    seen = one.now()
    one.more = {"image": str(one.active)} if switch == "none" else {}
    refusal = one.refuses("image_claimed", name="s1", state=way)
    assert "or define it with the disk of now, %s" % one.active in refusal["msg"] and one.now() == seen
    give_up(options)
    one.beats(name="s1", state=way)
    assert one.now() == seen


def test_the_vm_of_the_disk_itself_is_told_where_that_is(tmp_path: Path) -> None:
    one = two(tmp_path)
    left = one.active
    define(tmp_path, left)
    one.beats(name="s2", state="committed")
    told = "The disk of %s is in %s then, and VM web1 is defined with %s (drive system" % (one.image, one.active, left)
    assert str(one.result["warnings"]).count(told) == 1


@pytest.mark.parametrize("switch", ["rename", "symlink"])
def test_a_vm_that_knows_the_name_of_the_disk_is_none_the_wiser(tmp_path: Path, switch: str) -> None:
    one = two(tmp_path, switch)
    define(tmp_path, one.image)
    for change in (
        {"state": "committed"},
        {"name": "s1", "state": "reverted", "save": False},
        {"name": "s1", "state": "absent"},
    ):
        result = one.beats(**{"name": "s2", **change})
        assert "warnings" not in result, result


def test_definitions_are_read_where_others_could_be_harmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = disk(tmp_path, "external")
    config = Path(define(tmp_path, one.image)["config"])
    (config / "definition.json").write_text("{}")
    one.take("s1")
    one.refuses("definition_unreadable", name="s1", state="absent")
    monkeypatch.setattr(vm_definitions, "named_files", lambda: pytest.fail("looked"))
    one.settled(name="s1")
    one.settled(name="never", state="absent")
