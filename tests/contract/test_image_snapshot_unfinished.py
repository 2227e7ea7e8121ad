"""Merges that were killed, or that failed half-way: what their files hold is not taken for something else."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._snapshot import family, layer_records, live_merge
from ansible_collections.platter.qemu.tests.lab.between import between
from ansible_collections.platter.qemu.tests.lab.guest import MIB, guest_bytes, qemu_io, shows
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import qemu_img
from ansible_collections.platter.qemu.tests.lab.programs import exported
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, disk

#: where the upper layer holds data too
ABOVE = (0x55, MIB // 2, 64 << 10)
BASE, OVERLAY = (0x66, 0, MIB // 4), (0x77, MIB // 2, MIB // 4)


def write(path: Path, pattern: tuple[int, int, int]) -> None:
    qemu_io(path, "qcow2", f"write -q -P {pattern[0]} {pattern[1]} {pattern[2]}")


def test_a_merge_that_failed_is_ended_before_another_one_begins(tmp_path: Path) -> None:
    one = disk(tmp_path, "external", "rename", size="16M")
    one.take("s1")
    one.write(3, 0, 8 * MIB)
    one.take("s2")
    seen, limits = one.now(), resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * MIB, limits[1]))
    try:
        result = call("image_snapshot", **one.task(name="s1", state="committed"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert (result["changed"], result["failed"]) == (True, True), result
    assert "File too large" in result["msg"]
    for state in ("absent", "streamed", "committed"):
        one.refuses("merge_unfinished", name="s2", state=state)
    one.beats(name="s1", state="absent")
    one.sound("s2")
    assert one.now() == seen


def test_a_half_merged_file_whose_overlay_has_gone_is_no_sound_snapshot(tmp_path: Path) -> None:
    """Nothing can tell how much of the overlay is in it."""
    one = disk(tmp_path, "external", "rename")
    for number, name in enumerate(("s1", "s2", "s3"), 2):
        one.take(name)
        one.write(number)
    low, overlay, above = (one.points()[name] for name in ("s1", "s2", "s3"))
    assert low and overlay and above
    layer_records.begin_merge(str(low), str(overlay))
    qemu_img("commit", "-q", "-d", "-f", "qcow2", overlay)
    qemu_img("rebase", "-q", "-u", "-f", "qcow2", "-b", low, "-F", "qcow2", above)
    overlay.rename(tmp_path / "away")
    one.refuses("snapshot_altered", name="s1", state="absent")
    one.refuses("snapshot_altered", name="s1", state="reverted")
    assert list(one.points_now()) == ["s1", "s3"]


def merged(tmp_path: Path, switch: str) -> Disk:
    """A disk whose overlay is all in the file below when the run is killed that has merged it."""
    one = disk(tmp_path, "external", switch)
    one.take("s1")
    one.write(3)
    point = one.points()["s1"]
    layer_records.begin_merge(str(point), str(one.active))
    qemu_img("commit", "-q", "-d", "-f", "qcow2", one.active)
    layer_records.note_merged(str(point))
    return one


@pytest.mark.parametrize("way", ["absent", "committed", "streamed"])
def test_what_was_merged_is_not_merged_again_over_what_the_guest_wrote_since(tmp_path: Path, way: str) -> None:
    one = merged(tmp_path, "none")
    write(one.image, BASE)
    one.refuses("merge_unfinished", name="s2")
    result = one.beats(name="s1", state=way)
    assert result["actions"][0].startswith("Finish the merge of snapshot s1")
    assert (one.active, os.listdir(one.image.parent)) == (one.image, [one.image.name])
    shows(one.image, "qcow2", (BASE,))


def test_what_the_guest_wrote_to_the_overlay_since_is_merged(tmp_path: Path) -> None:
    one = merged(tmp_path, "none")
    write(one.active, OVERLAY)
    seen = one.now()
    one.beats(name="s1", state="committed")
    assert (one.active, one.now()) == (one.image, seen)


@pytest.mark.parametrize("switch", ["none", "symlink"])
def test_nothing_is_chosen_where_both_were_written_to(tmp_path: Path, switch: str) -> None:
    one = merged(tmp_path, switch)
    low, high = one.points()["s1"], one.active
    assert low
    write(low, BASE)
    write(high, OVERLAY)
    if switch == "symlink":
        one.image.unlink()
        one.image.symlink_to(low)
    for options in ({"name": "s1", "state": "committed"}, {"name": "s2"}, {"name": "s1", "state": "streamed"}):
        result = one.refuses("merge_unfinished", **options)
        assert result["evidence"] == {"overlay": str(high), "base": str(low)}
    shows(low, "qcow2", (BASE,))
    shows(high, "qcow2", (OVERLAY,))
    high.unlink()
    one.settled(name="s1", state="absent")
    assert one.points_now() == {}
    shows(one.image, "qcow2", (BASE,))


def test_what_a_running_vm_has_let_go_is_not_merged_again(tmp_path: Path) -> None:
    """Its QEMU had copied all and was on the file below; the run was killed, and the VM has ended."""
    one = disk(tmp_path, "external", "rename")
    for number, name in enumerate(("s1", "s2"), 3):
        one.take(name)
        one.write(number, number * MIB // 8)
    low, overlay = (one.points()[name] for name in ("s1", "s2"))
    assert low and overlay
    layer_records.begin_merge(str(low), str(overlay), "s2")
    qemu_img("commit", "-q", "-d", "-f", "qcow2", overlay)
    layer_records.note_copied(str(low))
    qemu_img("rebase", "-q", "-u", "-f", "qcow2", "-b", low, "-F", "qcow2", one.active)
    write(low, (0x66, 3 * MIB // 8, MIB // 8))
    seen = one.now()
    result = one.beats(name="s1", state="absent")
    assert result["actions"][0].startswith("Finish the merge of snapshot s1")
    assert (one.now(), list(one.points_now())) == (seen, ["s2"])


def test_a_link_does_not_tell_that_an_overlay_can_go(tmp_path: Path) -> None:
    """All of it is in the file below, to which somebody has led the link; but the disk is built on it still."""
    one = disk(tmp_path, "external", "symlink")
    for number, name in enumerate(("s1", "s2"), 3):
        one.take(name)
        one.write(number, number * MIB // 8)
    seen, (low, overlay) = one.now(), (one.points()[name] for name in ("s1", "s2"))
    assert low and overlay
    layer_records.begin_merge(str(low), str(overlay))
    qemu_img("commit", "-q", "-d", "-f", "qcow2", overlay)
    layer_records.note_copied(str(low))
    one.image.unlink()
    one.image.symlink_to(low)
    prepared("image_snapshot", **one.task(name="no such", state="absent"))
    assert one.now() == seen


# --- clones that are made between the runs


def clone_on(path: Path) -> Path:
    clone = path.parent / "clone"
    qemu_img("create", "-q", "-f", "qcow2", "-b", path, "-F", "qcow2", clone)
    return clone


def test_a_merged_overlay_stays_while_something_is_built_on_it(tmp_path: Path) -> None:
    """What the link does not lead to any more can be somebody else's base by now, or be open."""
    one = merged(tmp_path, "symlink")
    overlay, point = one.active, one.points()["s1"]
    assert point
    one.image.unlink()
    one.image.symlink_to(point)
    clone = clone_on(overlay)
    for task in ({"name": "none", "state": "absent"}, {"name": "s2"}):
        assert str(clone) in one.refuses("has_overlays", **task)["msg"]
    clone.unlink()
    with exported(overlay, "qcow2", tmp_path / "socket"):
        one.refuses("image_in_use", name="none", state="absent")
    one.beats(name="none", state="absent")
    assert not overlay.exists()


def test_a_clone_made_after_a_kill_keeps_its_base(tmp_path: Path) -> None:
    """The merge had begun, and nothing had been copied yet."""
    one = disk(tmp_path, "external", "rename")
    one.take("s1")
    one.write(3)
    point = one.points()["s1"]
    assert point
    layer_records.begin_merge(str(point), str(one.active))
    clone = clone_on(point)
    before = guest_bytes(clone, "qcow2")
    for state in ("absent", "committed"):
        one.refuses("has_overlays", name="s1", state=state)
    assert guest_bytes(clone, "qcow2") == before


@pytest.mark.parametrize(
    ("then", "left"), [({"state": "absent"}, ["s3"]), ({"state": "reverted", "save": False}, ["s1", "s3"])]
)
def test_a_snapshot_keeps_its_name_after_a_merge_that_was_killed_before_its_note(
    tmp_path: Path, then: dict[str, object], left: list[str]
) -> None:
    """All was done but to write down that the file of s2 is s3 from now on."""
    one = disk(tmp_path, "external", "rename")
    for number, name in enumerate(("s1", "s2", "s3"), 2):
        one.take(name)
        one.write(number)
    low, overlay = (one.points()[name] for name in ("s2", "s3"))
    assert low and overlay
    layer_records.begin_merge(str(low), str(overlay), "s3")
    qemu_img("commit", "-q", "-d", "-f", "qcow2", overlay)
    qemu_img("rebase", "-q", "-u", "-f", "qcow2", "-b", low, "-F", "qcow2", one.active)
    layer_records.note_merged(str(low))
    layer_records.remove_layer(str(overlay))
    assert list(one.points_now()) == ["s1", "s3"]
    one.beats(name="s1", **then)
    assert list(one.points_now()) == left


def told(tmp_path: Path, size: str = "1M") -> tuple[Disk, Path, Path]:
    """A disk, the layer that its VM was told to leave, and the one below it: the run was killed, and the VM has ended."""
    one = disk(tmp_path, "external")
    one.take("s1")
    one.write(3)
    one.take("s2")
    one.write(4, MIB // 2)
    base, leaving = one.points()["s2"], Path(f"{one.active}{family.LEAVING}")
    assert base
    qemu_img("resize", "-q", "-f", "qcow2", one.active, size)
    layer_records.begin_merge(str(base), str(leaving))
    qemu_img("commit", "-q", "-d", "-f", "qcow2", one.active)
    live_merge.leave(str(one.active))
    layer_records.note_told(str(base))
    one.active = leaving
    return one, leaving, base


@pytest.mark.parametrize("way", ["absent", "committed"])
def test_a_vm_that_ended_while_it_left_a_layer_is_no_matter_where_both_show_the_same(tmp_path: Path, way: str) -> None:
    one, leaving, base = told(tmp_path)
    seen = one.now()
    for options in (
        {"name": "s3"},
        {"name": "s1"},
        {"name": "s2", "state": "streamed"},
        {"name": "s1", "state": "absent"},
    ):
        assert "state=committed with name=s2" in one.refuses("merge_unfinished", **options)["msg"]
    action = one.beats(name="s2", state=way)["actions"][0]
    assert action == f"Finish the merge of snapshot s2 of {one.image}: {leaving} and {base} show the same."
    assert (one.active, one.now(), leaving.exists()) == (base, seen, False)
    one.sound("s1")


@pytest.mark.parametrize("written", ["overlay", "base", "size"])
def test_nothing_is_chosen_where_the_two_differ(tmp_path: Path, written: str) -> None:
    one, leaving, base = told(tmp_path)
    if written == "size":
        qemu_img("resize", "-q", "-f", "qcow2", leaving, "2M")
    else:
        write({"overlay": leaving, "base": base}[written], ABOVE)
    for way in ("absent", "committed"):
        evidence = one.refuses("merge_unfinished", name="s2", state=way)["evidence"]
        assert evidence == {"overlay": str(leaving), "base": str(base)}


def test_what_was_compared_is_still_so_when_the_merge_is_finished(tmp_path: Path) -> None:
    one, leaving, base = told(tmp_path)
    item = between(lambda: write(base, ABOVE), **one.task(name="s2", state="committed"))
    assert item.error and "changed_meanwhile" in str(item.error.facts)
    assert leaving.exists()
    one.refuses("merge_unfinished", name="s2", state="committed")


def test_a_layer_that_was_being_left_gives_its_name_to_nobody(tmp_path: Path) -> None:
    """With switch=rename, the file below would be called so."""
    one, leaving, base = told(tmp_path)
    one.switch = "rename"
    one.beats(name="s2", state="committed")
    assert (one.active, leaving.exists(), base.exists()) == (base, False, True)
