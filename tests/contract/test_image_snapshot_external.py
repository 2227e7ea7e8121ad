"""External snapshots: layers put on, gone back to, and what the VM opens then; read by QEMU's own programs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab.guest import MIB, qemu_io
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create, info, qemu_img
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, backing_name, disk, held

SWITCHES = ["none", "symlink", "rename"]


@pytest.fixture(params=SWITCHES)
def one(tmp_path: Path, request: pytest.FixtureRequest) -> Disk:
    return disk(tmp_path, "external", request.param)


def test_a_snapshot_is_the_file_of_then(one: Disk) -> None:
    first = one.active
    identity = first.stat().st_ino
    one.take("s1")
    point = one.points()["s1"]
    assert point and point.stat().st_ino == identity
    assert one.result["snapshot"]["same_as"] == ["s1"]
    one.write(3)
    one.take("s2")
    one.write(4)
    one.settled(name="s1")
    one.sound("s1", "s2")
    assert one.result["snapshot"]["layers"] == [*map(str, one.points().values()), str(one.active)]


def test_what_the_vm_opens_is_the_disk(one: Disk) -> None:
    one.take("s1")
    one.write(3)
    one.take("s2")
    one.write(4)
    if one.switch == "none":
        assert one.image == one.points()["s1"]
        assert [path.name for path in (one.points()["s2"], one.active) if path] == ["web1.s1.qcow2", "web1.s2.qcow2"]
    else:
        assert held(one.image) == one.now()
        assert one.image.is_symlink() == (one.switch == "symlink")


def test_any_layer_names_the_disk(tmp_path: Path) -> None:
    one = disk(tmp_path, "external")
    one.take("s1")
    one.take("s2")
    for path in (one.image, *one.points().values(), one.active):
        Disk(Path(str(path)), "external", active=one.active).settled(name="s1")


def test_there_is_a_way_back_and_a_way_back_from_that(one: Disk) -> None:
    one.take("s1")
    one.write(3)
    later = one.then["s1.undone"] = one.now()
    active = one.active
    one.beats(name="s1", state="reverted")
    assert one.active == active
    assert one.now() == one.then["s1"]
    one.sound("s1", "s1.undone")
    one.write(4)
    one.beats(name="s1.undone", state="reverted", save_as="third")
    assert one.now() == later
    assert list(one.points()) == ["s1", "s1.undone", "third"]


def test_nothing_written_is_nothing_to_go_back_from(one: Disk) -> None:
    one.take("s1")
    one.settled(name="s1", state="reverted")


def test_what_is_thrown_away_is_thrown_away(one: Disk) -> None:
    one.take("s1")
    one.write(3)
    before = sorted(one.image.parent.iterdir())
    one.beats(name="s1", state="reverted", save=False)
    assert one.now() == one.then["s1"]
    one.sound("s1")
    assert sorted(one.image.parent.iterdir()) == before


@pytest.mark.parametrize("switch", SWITCHES)
def test_the_size_of_then_comes_back(tmp_path: Path, switch: str) -> None:
    one = disk(tmp_path, "external", switch)
    one.take("s1")
    qemu_img("resize", "-q", "-f", "qcow2", one.active, "4M")
    one.write(3, 3 * MIB)
    one.take("s2")
    assert [each["virtual_size"] for each in one.result["snapshot"]["snapshots"]] == [MIB, 4 * MIB]
    one.beats(name="s1", state="reverted")
    assert info(one.active, "qcow2")["virtual-size"] == MIB
    assert one.now() == one.then["s1"]
    one.beats(name="s2", state="reverted")
    assert one.now() == one.then["s2"]
    one.sound("s1", "s2")


@pytest.mark.parametrize("switch", SWITCHES)
def test_raw_images_have_external_snapshots(tmp_path: Path, switch: str) -> None:
    one = disk(tmp_path, "external", switch, format="raw")
    one.take("s1")
    one.write(3)
    if switch == "none":
        one.settled(name="s1")
        one.beats(name="s1", state="reverted")
        assert one.now() == one.then["s1"]
    assert held(one.points()["s1"], "raw") == one.then["s1"]


def test_a_data_file_goes_on_with_its_image(tmp_path: Path) -> None:
    place = tmp_path / "images"
    place.mkdir()
    image = create(place / "web1.qcow2", "qcow2", "1M", f"data_file={place}/web1.data,data_file_raw=on")
    one = Disk(image, "external", active=image)
    one.write(1)
    one.take("s1")
    one.write(3)
    one.sound("s1")
    one.beats(name="s1", state="reverted", save=False)
    assert one.now() == one.then["s1"]


# --- names of files


def test_names_of_bases_are_recorded_as_asked(tmp_path: Path) -> None:
    one = disk(tmp_path, "external", relative=True)
    one.take("s1")
    assert backing_name(one.active) == "web1.qcow2"
    one.write(3)
    one.then["s1.undone"] = one.now()
    one.beats(name="s1", state="reverted")
    assert backing_name(one.active) == "web1.qcow2"
    moved = tmp_path / "moved"
    one.image.parent.rename(moved)
    assert held(moved / one.active.name) == one.then["s1"]


def test_names_of_bases_are_absolute_otherwise(one: Disk) -> None:
    one.take("s1")
    assert backing_name(one.active) == str(one.points()["s1"])


def test_the_overlay_lies_where_it_should(tmp_path: Path) -> None:
    one = disk(tmp_path, "external")
    overlay = one.image.parent / "elsewhere.qcow2"
    seen = one.now()
    one.beats(name="s1", overlay=str(overlay))
    assert (one.active, one.now()) == (overlay, seen)
    one.refuses("overlay_exists", name="s2", overlay=str(one.image))


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    one = disk(tmp_path, "external")
    (one.image.parent / "web1.s1.qcow2").write_text("mine")
    one.take("s1")
    assert one.active.name == "web1.s1-2.qcow2"
    assert (one.image.parent / "web1.s1.qcow2").read_text() == "mine"


@pytest.mark.parametrize("absolute", [True, False])
def test_a_link_stays_as_it_was(tmp_path: Path, absolute: bool) -> None:
    one = disk(tmp_path, "external", "symlink", **({} if absolute else {"link": "web1-disk.qcow2"}))
    one.take("s1")
    assert os.path.isabs(os.readlink(one.image)) == absolute
    assert one.image.resolve() == one.active


def test_owner_and_mode_go_with_the_name(one: Disk) -> None:
    os.chmod(one.active, 0o640)
    os.chown(one.active, 1234, 2345)
    one.take("s1")
    for path in (one.active, *one.points().values()):
        seen = os.stat(str(path))
        assert (seen.st_mode & 0o7777, seen.st_uid, seen.st_gid) == (0o640, 1234, 2345), path
    one.write(3)
    one.beats(name="s1", state="reverted", save=False)
    seen = one.active.stat()
    assert (seen.st_mode & 0o7777, seen.st_uid, seen.st_gid) == (0o640, 1234, 2345)


# --- what is refused


def test_a_switch_must_fit_what_the_image_is(tmp_path: Path) -> None:
    one = disk(tmp_path, "external", "symlink")
    for switch in ("none", "rename"):
        Disk(one.image, "external", switch).refuses("is_symlink", name="s1")
    Disk(one.active, "external", "symlink").refuses("no_symlink", name="s1")


def test_a_file_that_others_are_built_on_keeps_its_name(tmp_path: Path) -> None:
    one = disk(tmp_path, "external", "rename")
    other = create(one.image.parent / "other.qcow2", "qcow2", "", "", "-b", one.image, "-F", "qcow2")
    result = one.refuses("has_overlays", name="s1")
    assert result["evidence"] == {"overlays": [str(other)]}


def test_a_layer_that_others_are_built_on_is_not_left(one: Disk) -> None:
    one.take("s1")
    one.write(3)
    create(one.image.parent / "other.qcow2", "qcow2", "", "", "-b", one.active, "-F", "qcow2")
    one.refuses("has_overlays", name="s1", state="reverted")


def test_two_layers_could_be_the_disk(tmp_path: Path) -> None:
    one = disk(tmp_path, "external")
    one.take("s1")
    twin = one.active.with_name("twin.qcow2")
    qemu_img("create", "-q", "-f", "qcow2", "-b", one.image, "-F", "qcow2", twin)
    os.setxattr(twin, "user.platter.qemu", os.getxattr(one.active, "user.platter.qemu"))
    result = one.refuses("active_unknown", name="s2")
    assert sorted(result["evidence"]["layers"]) == sorted([str(one.active), str(twin)])
    Disk(one.active, "external", active=one.active).beats(name="s2")


def test_a_layer_that_is_gone_is_noticed(tmp_path: Path) -> None:
    one = disk(tmp_path, "external")
    one.take("s1")
    point = one.points()["s1"]
    assert point
    create(point.with_name("theirs.qcow2"), "qcow2", "", "", "-b", point, "-F", "qcow2")
    one.active.unlink()
    one.refuses("active_unknown", name="s2")


def test_what_does_not_exist_is_not_gone_back_to(one: Disk) -> None:
    one.take("s1")
    one.refuses("snapshot_missing", name="s2", state="reverted")


def test_a_base_is_not_written_to(one: Disk) -> None:
    base = create(one.image.parent / "golden.qcow2", "qcow2", "1M")
    qemu_io(base, "qcow2", "write -q -P 9 0 1M")
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", base, "-F", "qcow2", one.active)
    before = base.read_bytes()
    one.take("s1")
    one.write(3)
    one.beats(name="s1", state="absent")
    assert base.read_bytes() == before
    assert backing_name(one.active) == str(base)


# --- layers in other directories


def elsewhere(tmp_path: Path) -> Disk:
    """A disk whose newest layer lies in a directory of its own."""
    one = disk(tmp_path, "external")
    (tmp_path / "fast").mkdir()
    seen = one.now()
    one.beats(name="s1", overlay=str(tmp_path / "fast" / "web1.qcow2"))
    one.then["s1"] = seen
    assert one.active == tmp_path / "fast" / "web1.qcow2"
    return one


def test_a_layer_in_another_directory_is_found_again(tmp_path: Path) -> None:
    one = elsewhere(tmp_path)
    one.write(3)
    one.settled(name="s1")
    one.settled(name="s1", overlay=str(one.active))
    Disk(one.active, "external", active=one.active).settled(name="s1")
    one.take("s2")
    one.sound("s1", "s2")
    one.beats(name="s1", state="reverted")
    assert one.now() == one.then["s1"]


def test_who_is_built_on_a_point_in_another_directory_is_seen(tmp_path: Path) -> None:
    one = elsewhere(tmp_path)
    one.write(3)
    other = create(one.image.parent / "other.qcow2", "qcow2", "", "", "-b", one.points()["s1"], "-F", "qcow2")
    theirs = held(other)
    active = Disk(one.active, "external", active=one.active)
    result = active.refuses("has_overlays", name="s1", state="committed")
    assert result["evidence"] == {"overlays": [str(other)]}
    active.beats(name="s1", state="absent")
    assert held(other) == theirs


def test_a_place_that_is_taken_or_not_there_is_told_first(tmp_path: Path) -> None:
    one = disk(tmp_path, "external")
    (tmp_path / "fast").mkdir()
    (tmp_path / "fast" / "web1.qcow2").write_text("mine")
    one.refuses("overlay_exists", name="s1", overlay=str(tmp_path / "fast" / "web1.qcow2"))
    one.refuses("directory_missing", name="s1", overlay=str(tmp_path / "never" / "web1.qcow2"))


@pytest.mark.parametrize("kind", ["internal", "external"])
@pytest.mark.parametrize(
    ("base", "reason"), [("fifo", "backing_not_regular"), ("gone", "base_missing"), ("loop", "backing_loop")]
)
def test_a_chain_that_is_broken_or_has_no_end(tmp_path: Path, kind: str, base: str, reason: str) -> None:
    image = tmp_path / "image.qcow2"
    os.mkfifo(tmp_path / "fifo")
    for path, below in ((image, tmp_path / base), (tmp_path / "loop", image)):
        qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-u", "-b", below, path, "1M")
    for state in ("present", "absent"):
        for check in (True, False):
            told = call(
                "image_snapshot", check=check, image=str(image), format="qcow2", kind=kind, name="s1", state=state
            )
            assert (told.get("reason"), told["changed"]) == (reason, False), told
