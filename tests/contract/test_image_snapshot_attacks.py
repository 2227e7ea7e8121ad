"""External snapshots of hostile images, and names and records by which data could go: found by a review."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._snapshot import layer_records
from ansible_collections.platter.qemu.plugins.module_utils._tools import records
from ansible_collections.platter.qemu.tests.lab.beats import refused
from ansible_collections.platter.qemu.tests.lab.guest import KIB, MIB, qemu_io, shows
from ansible_collections.platter.qemu.tests.lab.led import led
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create, info, qemu_img
from ansible_collections.platter.qemu.tests.lab.snapshots import names_in

ONE, TWO = (0x11, 0, 64 * KIB), (0x22, 0, 64 * KIB)


def changed(**options: Any) -> dict[str, Any]:
    result = call("image_snapshot", **{"format": "qcow2", "kind": "external", **options})
    assert result["changed"] and not result.get("failed"), result
    return result


def write(path: Path, pattern: tuple[int, int, int], format: str = "qcow2") -> None:
    qemu_io(path, format, f"write -q -P {pattern[0]} {pattern[1]} {pattern[2]}")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    made = create(tmp_path / "a.qcow2", "qcow2", "1M")
    write(made, ONE)
    return made


@pytest.mark.parametrize("state", ["reverted", "streamed"])
@pytest.mark.parametrize("switch", ["rename", "symlink"])
def test_what_a_guest_writes_into_its_raw_disk_names_no_other_file(tmp_path: Path, switch: str, state: str) -> None:
    (tmp_path / "secret").write_bytes(b"\x77" * 2 * MIB)
    header = create(tmp_path / "header", "qcow2", "2M", "", "-b", tmp_path / "secret", "-F", "raw").read_bytes()
    disk = tmp_path / "disk" / "a.img"
    disk.parent.mkdir()
    disk.write_bytes(header[:MIB].ljust(2 * MIB, b"\0"))
    named = disk
    if switch == "symlink":
        named = disk.with_name("link")
        named.symlink_to(disk)
    changed(image=str(named), format="raw", name="s0", switch=switch)
    write(named.resolve(), ONE)
    changed(image=str(named), name="s0", switch=switch, state=state)
    told = info(named.resolve(), "qcow2")
    assert told.get("backing-filename-format", "raw") == "raw"
    assert not told.get("backing-filename", "").endswith("secret")
    first = (0x77, MIB, 64 * KIB)
    with pytest.raises(AssertionError, match="verification failed"):
        shows(named.resolve(), "qcow2", (first,))


def test_the_owner_of_an_image_has_no_other_file_removed(tmp_path: Path, image: Path) -> None:
    """The record is in an attribute that the owner can write."""
    victim, link = tmp_path / "victim", tmp_path / "link"
    link.symlink_to(image)
    for other in (b"precious", create(tmp_path / "other.qcow2", "qcow2", "1M").read_bytes()):
        victim.write_bytes(other)
        for forged in ({"merging": str(victim)}, {"merging": str(victim), "merged": True}):
            os.setxattr(image, "user.platter.qemu", json.dumps({"snapshot": forged}).encode())
            result = call(
                "image_snapshot",
                image=str(link),
                format="qcow2",
                kind="external",
                state="pruned",
                retention={"keep_last": 1},
            )
            assert (result["changed"], "removed_leftovers" in result) == (False, False), result
            assert victim.read_bytes() == other


def test_an_overlay_that_was_not_merged_whole_is_merged(tmp_path: Path, image: Path) -> None:
    """Killed when the merge had begun; the link leads to the file below, as somebody may have led it."""
    link = tmp_path / "link"
    link.symlink_to(image)
    changed(image=str(image), name="s1")
    overlay = tmp_path / "a.s1.qcow2"
    write(overlay, TWO)
    layer_records.begin_merge(str(image), str(overlay))
    changed(image=str(link), name="s1", state="committed", switch="symlink")
    shows(image, "qcow2", (TWO,))


def test_a_base_that_a_clone_uses_by_another_name_is_not_written_to(tmp_path: Path, image: Path) -> None:
    other = tmp_path / "zz-golden.qcow2"
    other.hardlink_to(image)
    clone = create(tmp_path / "clone.qcow2", "qcow2", "", "", "-b", other, "-F", "qcow2")
    changed(image=str(image), name="s1")
    write(tmp_path / "a.s1.qcow2", TWO)
    given = {"format": "qcow2", "kind": "external", "name": "s1"}
    refused("has_overlays", **given, image=str(image), state="committed")
    refused("image_would_go", **given, image=str(image), state="absent")
    changed(image=str(tmp_path / "a.s1.qcow2"), name="s1", state="absent")
    shows(clone, "qcow2", (ONE,))
    shows(tmp_path / "a.s1.qcow2", "qcow2", (TWO,))


@pytest.mark.parametrize("state", ["committed", "absent", "reverted"])
def test_a_base_that_a_clone_behind_a_link_uses_is_not_written_to(tmp_path: Path, image: Path, state: str) -> None:
    changed(image=str(image), name="s1", switch="rename")
    write(image, TWO)
    on = image if state == "reverted" else tmp_path / "a.s1.qcow2"
    other = tmp_path / "elsewhere" / "clone.qcow2"
    other.parent.mkdir()
    create(other, "qcow2", "", "", "-b", on, "-F", "qcow2")
    (tmp_path / "clone").symlink_to(other)
    before = on.read_bytes()
    given = {"image": str(image), "format": "qcow2", "kind": "external", "name": "s1", "state": state}
    result = refused("has_overlays", **given)
    assert result["evidence"]["overlays"] == [str(tmp_path / "clone")]
    assert on.read_bytes() == before
    if state == "absent":
        changed(**given, overlay_directories=[str(other.parent)])
        shows(other, "qcow2", (ONE,))


def test_what_an_empty_layer_holds_beside_its_data_is_kept(tmp_path: Path, image: Path) -> None:
    for name in ("s0", "s1"):
        changed(image=str(image), name=name, switch="rename")
        if name == "s0":
            write(image, TWO)
    changed(image=str(image), kind="internal", name="inside")
    changed(image=str(image), bitmaps=[{"name": "b"}])
    changed(image=str(image), name="s0", state="reverted", switch="rename")
    kept = tmp_path / "a.s0.undone.qcow2"
    assert names_in(kept) == ["inside"]
    bitmaps = info(kept, "qcow2")["format-specific"]["data"]["bitmaps"]
    assert [bitmap["name"] for bitmap in bitmaps] == ["b"]
    shows(image, "qcow2", (ONE,))
    assert subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", str(kept)], check=False).returncode == 0
    qemu_img("check", "-q", "-f", "qcow2", image)


# --- records that the owner of an image has written


def forge(path: Path, **keys: Any) -> None:
    record = records.read_record(str(path))
    record["snapshot"] = {**record.get("snapshot", {}), **keys}
    os.setxattr(path, "user.platter.qemu", json.dumps(record).encode())


def test_a_record_takes_no_snapshot_of_another_disk(tmp_path: Path, image: Path) -> None:
    """C(streaming): what a killed run would have left to be removed."""
    other = create(tmp_path / "b.qcow2", "qcow2", "1M")
    changed(image=str(other), name="b1", switch="rename")
    write(other, TWO)
    changed(image=str(other), name="b1", state="reverted", save_as="left")
    left = tmp_path / "b.left.qcow2"
    before = left.read_bytes()
    changed(image=str(image), name="s1", switch="rename")
    forge(image, streaming=str(left))
    result = call("image_snapshot", image=str(image), format="qcow2", kind="external", name="left", state="absent")
    assert (result["changed"], result.get("failed")) == (False, None), result
    assert [each["name"] for each in result["snapshot"]["snapshots"]] == ["s1"]
    assert left.read_bytes() == before


@contextlib.contextmanager
def noting() -> Iterator[list[str]]:
    """What this process opens meanwhile, files and directories."""
    found: list[str] = []
    todo = [found]

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if todo and event in ("open", "os.scandir", "os.listdir"):
            found.append(str(arguments[0]))

    sys.addaudithook(note)  # which cannot be taken away again
    try:
        yield found
    finally:
        todo.clear()


@pytest.mark.parametrize("named", ["nothing", "foreign.qcow2"])
def test_a_record_opens_no_directory_to_us(tmp_path: Path, image: Path, named: str) -> None:
    """C(overlays): where overlays of ours are said to lie; C(directory) was its name once."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "other").write_bytes(b"theirs")
    create(secret / "foreign.qcow2", "qcow2", "1M")
    changed(image=str(image), name="s1", switch="rename")
    for path in (image, tmp_path / "a.s1.qcow2"):
        forge(path, overlays=[str(secret / named)], directory=str(secret))
    with noting() as opened:
        prepared("image_snapshot", image=str(image), format="qcow2", kind="external", name="s1")
    seen = {path for path in opened if path.startswith(str(secret))}
    assert seen <= {str(secret / "foreign.qcow2")}, seen
    assert str(image) in opened


@pytest.mark.parametrize("path", ["\0", "\ud800", "relative", "/" + "x" * 300])
def test_what_is_no_path_is_none(tmp_path: Path, image: Path, path: str) -> None:
    link = tmp_path / "link"
    link.symlink_to(image)
    changed(image=str(link), name="s1", switch="symlink")
    for each in (image, link.resolve()):
        forge(each, overlays=[path], merging=path, copied=True, merged=True, streaming=path, into=path)
    given = {"image": str(link), "format": "qcow2", "kind": "external"}
    assert call("image_snapshot", **given, name="other", state="absent")["changed"] is False


FORGED: list[dict[str, Any]] = [
    {"heir": "x", "heir_leaf": True, "heir_date": "soon"},
    {"heir": 5, "heir_leaf": "yes", "heir_date": -1e300, "merged": True},
    {"name": 7, "date": "never", "made": "once", "size": "large", "mtime_ns": True, "switch": "sideways"},
    {"name": "s1", "leaf": True, "merged": "no"},
]


@pytest.mark.parametrize("forged", FORGED, ids=lambda forged: str(next(iter(forged.values()))))
def test_whatever_a_record_says_nothing_of_others_goes(tmp_path: Path, image: Path, forged: dict[str, Any]) -> None:
    victim = create(tmp_path / "victim.qcow2", "qcow2", "1M")
    write(victim, TWO)
    before = victim.read_bytes()
    changed(image=str(image), name="s1", switch="rename")
    for path in (image, tmp_path / "a.s1.qcow2"):
        forge(path, merging=str(victim), streaming=str(victim), overlays=[str(victim)], **forged)
    kept = {path: (path.read_bytes(), path.stat().st_ino) for path in (image, tmp_path / "a.s1.qcow2")}
    given = {"image": str(image), "format": "qcow2", "kind": "external"}
    for name in ("x", "5", "7", "victim"):
        if not name.isdigit():
            for state in ("absent", "committed", "streamed"):
                call("image_snapshot", **given, name=name, state=state)
    call("image_snapshot", **given, state="pruned", retention={"keep_last": 1})
    assert victim.read_bytes() == before
    for path, (content, inode) in kept.items():
        if path.exists() and path.stat().st_ino == inode and path != image:
            assert path.read_bytes() == content
    shows(image, "qcow2", (ONE,))


def test_an_overlay_that_another_user_has_made_gives_no_right_to_a_snapshot(tmp_path: Path, image: Path) -> None:
    changed(image=str(image), name="s1", switch="rename")
    write(image, TWO)
    changed(image=str(image), name="s1", state="reverted", save_as="left")
    left = tmp_path / "a.left.qcow2"
    before = left.read_bytes()
    foreign = tmp_path / "theirs" / "web.qcow2"
    foreign.parent.mkdir()
    create(foreign, "qcow2", "", "", "-b", left, "-F", "qcow2")
    forge(foreign, made=1.0, switch="rename")
    os.chown(foreign, 1234, 1234)
    for options in ({"name": "left", "state": "absent"}, {"state": "pruned", "retention": {"keep_last": 1}}):
        result = call("image_snapshot", image=str(foreign), format="qcow2", kind="external", **options)
        assert (result["changed"], result["snapshot"]["snapshots"]) == (False, []), result
    assert left.read_bytes() == before
    assert call("image_snapshot", image=str(image), format="qcow2", kind="external", name="s1")["changed"] is False


@pytest.mark.parametrize("way", ["committed", "streamed", "absent"])
def test_snapshots_that_root_has_taken_over_are_still_those_of_the_disk(tmp_path: Path, image: Path, way: str) -> None:
    """The VM's user has the file of now, and no other."""
    os.chown(image, 1234, 1234)
    for name in ("s1", "s2", "s3"):
        changed(image=str(image), name=name, switch="rename")
        os.chown(tmp_path / f"a.{name}.qcow2", 0, 0)
    write(image, TWO)
    changed(image=str(image), name="s2", state=way)
    for name in ("s1", "s3"):
        changed(image=str(image), name=name, state="reverted", save_as=f"left-{name}")
        write(image, TWO)
    result = changed(image=str(image), name="s4")
    assert [each["name"] for each in result["snapshot"]["snapshots"]] == ["s1", "s3", "left-s1", "left-s3", "s4"]


def test_a_name_does_not_make_a_merge_of_a_running_vm(tmp_path: Path, image: Path) -> None:
    changed(image=str(image), name="s1")
    create(tmp_path / "x.qcow2.leaving~", "qcow2", "", "", "-b", image, "-F", "qcow2")
    changed(image=str(tmp_path / "a.s1.qcow2"), name="s2")


@pytest.mark.parametrize(("switch", "state"), [("none", "committed"), ("rename", "committed"), ("none", "streamed")])
def test_what_a_guest_writes_into_its_raw_disk_keeps_no_layer(tmp_path: Path, switch: str, state: str) -> None:
    """The raw file begins like an image that is built on the layer which is about to go."""
    disk = tmp_path / "disk" / "a.img"
    disk.parent.mkdir()
    goes = disk if switch == "rename" else disk.with_name("a.s1.qcow2")
    planted = led(tmp_path / "header", goes, "1M", "qcow2")
    planted.write_bytes(planted.read_bytes()[: 64 * KIB])
    disk.write_bytes(planted.read_bytes().ljust(MIB, b"\0") if state == "streamed" else bytes(MIB))
    task, last = {"image": str(disk), "format": "raw"}, "s2" if state == "streamed" else "s1"
    active = changed(**task, name="s1", switch=switch)["snapshot"]["active"]
    if state == "streamed":
        changed(**task, name="s2")
    else:
        qemu_io(active, "qcow2", f"write -q -s {planted} 0 64k")
    before = set(disk.parent.iterdir())
    result = changed(**task, name=last, state=state)
    assert not result.get("warnings"), result
    assert len(before - set(disk.parent.iterdir())) == 1
