"""What killed and failed runs leave beside a merge: names, second names, and overlays that nobody needs any more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._snapshot import layer_records
from ansible_collections.platter.qemu.plugins.module_utils._tools import records
from ansible_collections.platter.qemu.tests.lab.guest import MIB, qemu_io, shows
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import qemu_img
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, disk, held

NEWEST = (0x66, 0, MIB // 4)


def stacked(tmp_path: Path, switch: str, *names: str) -> Disk:
    """A disk with these snapshots, written to before and after each."""
    one = disk(tmp_path, "external", switch)
    for number, name in enumerate(names, 3):
        one.take(name)
        one.write(number, number * MIB // 8)
    return one


# --- the name of a snapshot that was not taken


@pytest.mark.parametrize("switch", ["none", "rename"])
@pytest.mark.parametrize("way", ["committed", "streamed"])
def test_the_name_of_a_snapshot_that_was_not_taken_is_inherited_by_nobody(
    tmp_path: Path, switch: str, way: str
) -> None:
    one = stacked(tmp_path, switch, "s1")
    if (switch, way) == ("none", "streamed"):
        one.image = one.active
    layer_records.note_point(str(one.active), "s2", overlay=str(one.active), leaf=switch == "rename", called="/new")
    seen = one.now()
    one.beats(name="s1", state=way)
    assert (one.now(), one.points_now()) == (seen, {})
    one.take("s3")
    one.sound("s3")


def test_the_disk_is_found_after_a_merge_of_a_layer_with_such_a_name_was_killed(tmp_path: Path) -> None:
    one = stacked(tmp_path, "none", "s1")
    layer_records.note_point(str(one.active), "s2", overlay="/new")
    layer_records.begin_merge(str(one.image), str(one.active))
    seen = one.now()
    one.beats(name="s1", state="absent")
    assert (one.now(), one.active, one.points_now()) == (seen, one.image, {})


@pytest.mark.parametrize(("switch", "task"), [("rename", {"name": "s2"}), ("none", {"name": "s2"}), ("rename", None)])
def test_a_run_that_fails_leaves_no_name(
    tmp_path: Path, switch: str, task: dict[str, str] | None, instead: Callable[[str], None]
) -> None:
    one = stacked(tmp_path, switch, "s1")
    before, files = records.read_record(str(one.active)), sorted(one.image.parent.iterdir())
    instead('test "$1" = create && { echo no room >&2; exit 1; }; exec $real "$@"')
    result = call("image_snapshot", **one.task(**(task or {"name": "s1", "state": "reverted"})))
    assert result.get("failed") and "no room" in result["msg"], result
    assert (records.read_record(str(one.active)), sorted(one.image.parent.iterdir())) == (before, files)


@pytest.mark.parametrize("switch", ["none", "symlink"])
@pytest.mark.parametrize("size", ["1M", "2M"])
def test_the_disk_stays_where_it_was_when_it_is_resized_before_the_next_run(
    tmp_path: Path, switch: str, size: str
) -> None:
    """The overlay of a run that was killed before the disk was in it has the size of then."""
    one = stacked(tmp_path, switch, "s1")
    low, link = one.active, os.readlink(one.image) if switch == "symlink" else ""
    one.take("s2")
    layer_records.note_point(str(low), "s2", overlay=str(one.active))  # until here, and not that it was settled
    if link:
        one.image.unlink()
        one.image.symlink_to(link)
    unused, one.active = one.active, low
    del one.then["s2"]
    qemu_img("resize", "-q", "-f", "qcow2", low, size)
    one.write(7)
    seen = one.now()
    one.settled(name="no such", state="absent")
    one.points_now()
    one.sound("s1")
    assert one.take("s3")["actions"][0].startswith(f"Remove {unused}")
    assert one.now() == seen
    one.sound("s1", "s3")


# --- the second name that a file has for a moment


def with_second_name(tmp_path: Path, *, leaf: bool = False) -> tuple[Disk, Path]:
    """A run was killed that was to give the file of now to a snapshot, C(leaf): one that is left."""
    one = stacked(tmp_path, "rename", "s1")
    second = one.image.with_name("web1.a-new-one.qcow2")
    layer_records.note_point(str(one.image), "a-new-one", leaf=leaf, called=str(second))
    second.hardlink_to(one.image)
    return one, second


@pytest.mark.parametrize(
    "task", [{"name": "s1", "state": "committed"}, {"name": "s1", "state": "reverted"}, {"name": "s2"}]
)
@pytest.mark.parametrize("leaf", [False, True])
def test_a_second_name_that_a_killed_run_has_left_goes(tmp_path: Path, task: dict[str, str], leaf: bool) -> None:
    one, second = with_second_name(tmp_path, leaf=leaf)
    result = one.beats(**task)
    assert (result["removed_leftovers"], second.exists()) == ([str(second)], False)
    assert os.stat(one.image).st_nlink == 1
    assert "a-new-one" not in one.points_now()


def test_a_disk_is_not_taken_for_its_second_name(tmp_path: Path) -> None:
    one, _second = with_second_name(tmp_path)
    lower = one.points()["s1"]
    told = call("image_snapshot", check=True, **{**one.task(name="no such", state="absent"), "image": str(lower)})
    assert told["snapshot"]["active"] == str(one.image), told


def test_a_name_that_somebody_else_has_given_stays_and_protects_what_it_leads_to(tmp_path: Path) -> None:
    """By it the layer would be there still, on a base that holds something else then."""
    one = stacked(tmp_path, "rename", "s1")
    other = one.image.with_name("backup")
    other.hardlink_to(one.image)
    seen = held(other)
    assert one.refuses("hardlinked", name="s1", state="absent")["evidence"]["links"] == 2
    assert held(other) == seen
    other.unlink()
    one.beats(name="s1", state="absent")


def test_what_was_to_be_remembered_beside_the_disk_goes(tmp_path: Path) -> None:
    """A run was killed while it wrote that; another disk's is left alone."""
    one = stacked(tmp_path, "rename", "s1")
    left, other = (one.image.with_name(f".{name}.platter.json.0123abcd") for name in ("web1.qcow2", "web2.qcow2"))
    for each in (left, other):
        each.touch()
    assert one.beats(name="s2")["removed_leftovers"] == [str(left)]
    assert (left.exists(), other.exists()) == (False, True)


# --- merges that are all but done


def left_behind(tmp_path: Path) -> tuple[Disk, Path]:
    """A merge was complete, and the link led to the file below, when the run was killed. The overlay."""
    one = stacked(tmp_path, "symlink", "s1")
    overlay, point = one.active, one.points()["s1"]
    assert point
    layer_records.begin_merge(str(point), str(overlay))
    qemu_img("commit", "-q", "-d", "-f", "qcow2", overlay)
    layer_records.note_merged(str(point))
    one.image.unlink()
    one.image.symlink_to(point)
    one.active = point
    return one, overlay


@pytest.mark.parametrize("task", [{"name": "none", "state": "absent"}, {"name": "s2"}])
def test_the_end_of_a_merge_is_planned(tmp_path: Path, task: dict[str, str]) -> None:
    one, overlay = left_behind(tmp_path)
    point = one.active
    qemu_io(point, "qcow2", "write -q -P %d %d %d" % NEWEST)
    seen = one.now()
    actions = one.beats(**task)["actions"]
    assert actions[0] == f"Finish an earlier merge of {one.image}: {overlay} has gone into {point}."
    assert (one.now(), overlay.exists()) == (seen, False)


def test_a_vm_that_has_left_a_layer_needs_it_no_more(tmp_path: Path) -> None:
    """It was noted that it had; the VM went on in the file below, and has ended. The link does not lead anywhere."""
    one = stacked(tmp_path, "symlink", "s1")
    overlay, point = one.active, one.points()["s1"]
    assert point
    qemu_img("commit", "-q", "-d", "-f", "qcow2", overlay)
    leaving = Path(f"{overlay}.leaving~")
    layer_records.begin_merge(str(point), str(leaving))
    overlay.rename(leaving)
    layer_records.note_merged(str(point))
    qemu_io(point, "qcow2", "write -q -P %d %d %d" % NEWEST)
    result = one.beats(name="s1", state="absent")
    assert [action.split()[0] for action in result["actions"]] == ["Finish"]
    assert (one.image.resolve(), leaving.exists(), one.points_now()) == (point, False, {})
    shows(one.image, "qcow2", (NEWEST,))


def test_a_layer_that_was_left_and_got_its_name_back_is_not_merged_over_what_is_newer(tmp_path: Path) -> None:
    one = stacked(tmp_path, "none", "s1")
    overlay = one.active
    leaving = Path(f"{overlay}.leaving~")
    qemu_img("commit", "-q", "-d", "-f", "qcow2", overlay)
    layer_records.begin_merge(str(one.image), str(leaving))
    overlay.rename(leaving)
    layer_records.note_merged(str(one.image))
    for path in (one.image, leaving):
        qemu_io(path, "qcow2", "write -q -P %d %d %d" % NEWEST)
    leaving.rename(overlay)
    one.refuses("merge_unfinished", name="s1", state="absent")
    one.refuses("merge_unfinished", name="s2")
    overlay.unlink()
    one.beats(name="s2")
    shows(one.image, "qcow2", (NEWEST,))


def losing_its_name(tmp_path: Path, switch: str) -> tuple[Disk, Path]:
    """A running VM was about to leave the layer, which has lost its name for that, when the run was killed."""
    one = stacked(tmp_path, switch, "s1")
    leaving = Path(f"{one.active}.leaving~")
    layer_records.begin_merge(str(one.points()["s1"]), str(leaving))
    one.active.rename(leaving)
    one.active = leaving
    return one, leaving


@pytest.mark.parametrize("switch", ["none", "symlink"])
def test_a_layer_that_no_vm_was_told_to_leave_has_what_was_written_last(tmp_path: Path, switch: str) -> None:
    one, leaving = losing_its_name(tmp_path, switch)
    point = one.points()["s1"]
    qemu_io(leaving, "qcow2", "write -q -P %d %d %d" % NEWEST)
    one.refuses("merge_unfinished", name="s2")
    seen = one.now()
    one.beats(name="s1", state="absent")
    assert (one.now(), one.active, one.image.resolve(), leaving.exists()) == (seen, point, point, False)
    one.beats(name="s2")


@pytest.mark.parametrize("right", ["below", "above"])
def test_nobody_else_knows_what_a_vm_wrote_last_that_was_told_to_leave_a_layer(tmp_path: Path, right: str) -> None:
    """It has ended, and it was not noted whether it had left. Who knows removes the one, or gives the other its name."""
    one, leaving = losing_its_name(tmp_path, "none")
    layer_records.note_told(str(one.image))
    for task in ({"name": "s1", "state": "absent"}, {"name": "s2"}):
        assert "else copy what the former shows" in one.refuses("merge_unfinished", **task)["msg"]
    if right == "below":
        leaving.unlink()
    else:
        leaving.rename(str(leaving).replace(".leaving~", ""))
        one.beats(name="s1", state="committed")
    one.active = one.image
    one.then.clear()
    one.take("s2")
    one.sound("s2")


@pytest.mark.parametrize("noted", [True, False])
def test_what_is_written_to_a_snapshot_before_its_merge_is_noted_to_have_ended_is_told(
    tmp_path: Path, noted: bool
) -> None:
    one = stacked(tmp_path, "rename", "s1", "s2", "s3")
    low, overlay = (one.points()[name] for name in ("s1", "s2"))
    assert low and overlay
    layer_records.begin_merge(str(low), str(overlay), "s2")
    qemu_img("commit", "-q", "-d", "-f", "qcow2", overlay)
    qemu_img("rebase", "-q", "-u", "-f", "qcow2", "-b", low, "-F", "qcow2", one.points()["s3"])
    layer_records.settle_point(str(one.points()["s3"]))
    layer_records.note_merged(str(low))
    layer_records.remove_layer(str(overlay))
    one.settled(name="none", state="absent")
    qemu_io(low, "qcow2", "write -q -P %d %d %d" % NEWEST)
    if noted:
        layer_records.end_merge(str(low))
    assert one.refuses("snapshot_altered", name="s2", state="reverted")["evidence"]["path"] == str(low)


def test_a_prune_ends_a_merge_and_removes_what_is_beside_it(tmp_path: Path) -> None:
    """Its end writes to the layers above, of which one goes next."""
    one = stacked(tmp_path, "rename", "s1", "s2")
    one.beats(name="s2", state="reverted")
    one.take("s3")
    low, overlay = (one.points()[name] for name in ("s1", "s2"))
    assert low and overlay
    seen = one.now()
    layer_records.begin_merge(str(low), str(overlay), "s2")
    one.beats(state="pruned", retention={"keep_last": 1})
    assert (one.now(), list(one.points_now())) == (seen, ["s3"])
