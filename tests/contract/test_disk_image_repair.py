"""Repairing leaks and corruptions that are made by hand."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import digest, four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.guest import check, extents, facts, guest_bytes, scribble, shows
from ansible_collections.platter.qemu.tests.lab.loops import mounted
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.programs import exported

CLUSTER = 1 << 16


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = create(tmp_path / "image.qcow2", "qcow2", "4M")
    scribble(path, "qcow2")
    return path


def _big_endian(path: Path, offset: int, format: str = ">Q") -> int:
    with path.open("rb") as stream:
        stream.seek(offset)
        return int(struct.unpack(format, stream.read(struct.calcsize(format)))[0])


def _put(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(data)


def refcounts(path: Path) -> int:
    """Where the first block of reference counts lies (16 bits for each cluster)."""
    return _big_endian(path, _big_endian(path, 48))


def leak(path: Path, number: int = 2) -> None:
    """Clusters at the end of the file that have a reference count, but that nothing refers to."""
    clusters = -(-path.stat().st_size // CLUSTER)
    _put(path, refcounts(path) + 2 * clusters, b"\0\1" * number)
    with path.open("r+b") as stream:
        stream.truncate((clusters + number) * CLUSTER)


def corrupt(path: Path) -> None:
    """A data cluster in use whose reference count says that it is free."""
    l2 = _big_endian(path, _big_endian(path, 40)) & 0x00FFFFFFFFFFFE00
    data = _big_endian(path, l2) & 0x00FFFFFFFFFFFE00
    _put(path, refcounts(path) + 2 * (data // CLUSTER), b"\0\0")


def test_the_damage_is_what_qemu_sees_as_damage(image: Path) -> None:
    leak(image)
    assert check(image, "qcow2")["leaks"] == 2
    corrupt(image)
    assert check(image, "qcow2")["corruptions"] >= 1


@pytest.mark.parametrize("repair", ["leaks", "all"])
def test_leaks_are_given_back(image: Path, repair: str) -> None:
    leak(image)
    result = four_beats(path=str(image), format="qcow2", repair=repair)
    assert result["actions"] == [f"Repair {image} ({repair}): 2 leaked clusters and 0 corruptions."]
    assert "leaks" not in check(image, "qcow2")
    shows(image, "qcow2")


def test_leaks_are_repaired_in_the_file_itself(image: Path) -> None:
    leak(image)
    inode = image.stat().st_ino
    result = call("disk_image", path=str(image), format="qcow2", repair="leaks")
    assert image.stat().st_ino == inode
    assert "backup_file" not in result


def test_corruptions_are_repaired_in_a_copy_and_the_damaged_file_is_kept(image: Path) -> None:
    seen = guest_bytes(image, "qcow2")
    corrupt(image)
    damaged = digest(image)
    result = four_beats(path=str(image), format="qcow2", repair="all")
    assert "corruptions" not in check(image, "qcow2")
    assert guest_bytes(image, "qcow2") == seen
    assert digest(result["backup_file"]) == damaged


def test_nothing_is_written_to_what_qemu_cannot_repair(image: Path) -> None:
    """A data cluster that begins in the middle of another."""
    l2 = _big_endian(image, _big_endian(image, 40)) & 0x00FFFFFFFFFFFE00
    _put(image, l2, struct.pack(">Q", _big_endian(image, l2) + 512))
    damaged = digest(image)
    result = call("disk_image", path=str(image), format="qcow2", repair="all", size="8M")
    assert (result["reason"], result["changed"]) == ("image_corrupt", False), result
    assert (digest(image), os.listdir(image.parent)) == (damaged, [image.name])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")
def test_there_has_to_be_room_for_the_copy(tmp_path: Path) -> None:
    with mounted("tmpfs", tmp_path, "-t", "tmpfs", "-o", "size=32m"):
        image = create(tmp_path / "image.qcow2", "qcow2", "16M")
        scribble(image, "qcow2", ((0x11, 0, 10 << 20),))
        corrupt(image)
        result = refused("would_exceed_space", path=str(image), format="qcow2", repair="all")
        assert result["evidence"]["needed_bytes"] > 10 << 20


def test_a_copy_gets_its_mode_where_others_can_move_things(image: Path) -> None:
    """There a file is given another mode only if it is the one that was looked at, which the copy is not."""
    image.parent.chmod(0o770)
    image.chmod(0o644)
    corrupt(image)
    result = four_beats(path=str(image), format="qcow2", repair="all", mode="0640")
    assert image.stat().st_mode & 0o777 == 0o640
    assert len(result["actions"]) == 1 and result["diff"]["after"]["mode"] == "0640"


def test_corruptions_stay_when_only_leaks_are_to_be_repaired(image: Path) -> None:
    """What cannot be mended with this consent is said in the facts, or refused; never written over."""
    corrupt(image)
    found = digest(image)
    for check_mode in (True, False):
        result = call("disk_image", check=check_mode, path=str(image), format="qcow2", repair="leaks")
        assert result["image"]["corruptions"] and not result["changed"]
        assert "set repair to all" in str(result["warnings"])
    assert digest(image) == found


@pytest.mark.parametrize("change", [{"size": "8M"}, {"flatten": True}], ids=str)
def test_nothing_is_written_to_what_is_found_corrupt(tmp_path: Path, change: dict[str, Any]) -> None:
    """A cluster that is counted as free is the next one that QEMU takes: the guest's data would be gone."""
    base = create(tmp_path / "base", "raw", "4M")
    scribble(base, "raw", ((0x33, 2 << 20, 1 << 20),))
    overlay = create(tmp_path / "overlay", "qcow2", "", "", "-b", base, "-F", "raw")
    scribble(overlay, "qcow2")
    corrupt(overlay)
    seen = guest_bytes(overlay, "qcow2")
    refused("image_corrupt", path=str(overlay), format="qcow2", repair="leaks", **change)
    result = four_beats(path=str(overlay), format="qcow2", repair="all", **change)
    assert len(result["actions"]) == 2
    assert guest_bytes(overlay, "qcow2")[: len(seen)] == seen


def test_counts_of_a_snapshot_that_was_not_made_are_given_back(image: Path) -> None:
    """As a killed qemu-img leaves them: a count of 2 is a leak, and so long the flag for a count of 1 is wrong too."""
    used = next(each for each in extents(image, "qcow2") if each.get("offset"))["offset"] // CLUSTER
    _put(image, refcounts(image) + 2 * used, b"\0\2")
    found = check(image, "qcow2")
    assert (found["leaks"], found["corruptions"]) == (1, 1)
    four_beats(path=str(image), format="qcow2", repair="leaks", unpredictable=["corruptions"])
    assert not check(image, "qcow2").keys() & {"leaks", "corruptions"}
    shows(image, "qcow2")


def test_what_a_damaged_table_leads_to_is_not_given_back(image: Path) -> None:
    """One bit of the L1 table has flipped: all that the guest has there counts as leaked."""
    l1 = _big_endian(image, 40)
    _put(image, l1, struct.pack(">Q", _big_endian(image, l1) | 0x200))
    found = check(image, "qcow2")
    assert found["leaks"] and found["corruptions"]
    damaged = digest(image)
    result = call("disk_image", path=str(image), format="qcow2", repair="leaks")
    assert (result["reason"], result["changed"]) == ("image_corrupt", False), result
    assert (digest(image), os.listdir(image.parent)) == (damaged, [image.name])


def test_a_sound_image_is_left_alone(image: Path) -> None:
    for repair in ("leaks", "all"):
        settled(path=str(image), format="qcow2", repair=repair)


def test_an_image_that_is_marked_corrupt_is_not_changed(image: Path) -> None:
    features = _big_endian(image, 72)
    _put(image, 72, struct.pack(">Q", features | 2))
    refused("image_corrupt", path=str(image), format="qcow2", size="8M")
    refused("image_corrupt", path=str(image), format="qcow2", repair="leaks")


def test_an_image_that_is_marked_corrupt_is_repaired(image: Path) -> None:
    corrupt(image)
    _put(image, 72, struct.pack(">Q", _big_endian(image, 72) | 2))
    four_beats(path=str(image), format="qcow2", repair="all")
    assert facts(image, "qcow2")["format-specific"]["data"]["corrupt"] is False
    shows(image, "qcow2")


def test_a_base_that_is_named_relative_to_its_overlay_is_left_so(image: Path) -> None:
    overlay = image.with_name("overlay")
    backing = {"path": str(image), "format": "qcow2", "relative": True}
    prepared("disk_image", path=str(overlay), format="qcow2", backing=backing)
    scribble(overlay, "qcow2")
    corrupt(overlay)
    four_beats(path=str(overlay), format="qcow2", repair="all")
    assert facts(overlay, "qcow2")["backing-filename"] == image.name
    shows(overlay, "qcow2")


@pytest.mark.parametrize("format", ["raw", "qcow", "vdi", "vmdk", "vpc"])
def test_formats_that_qemu_cannot_repair_are_refused(tmp_path: Path, format: str) -> None:
    path = create(tmp_path / "image", format, "4M")
    refused("bad_option", path=str(path), format=format, repair="all")


def test_what_is_still_of_a_format_that_qemu_cannot_check_is_rewritten(tmp_path: Path) -> None:
    path = create(tmp_path / "image", "raw", "4M")
    scribble(path, "raw")
    four_beats(path=str(path), format="qcow2", current_format="raw", allow_rewrite=True, repair="all")
    shows(path, "qcow2")


@pytest.mark.parametrize("format", ["qed", "vhdx", "parallels"])
def test_sound_images_of_the_others_are_left_alone(tmp_path: Path, format: str) -> None:
    path = create(tmp_path / "image", format, "4M")
    scribble(path, format)
    settled(path=str(path), format=format, repair="all")


def test_leaks_of_parallels_are_given_back(tmp_path: Path) -> None:
    path = create(tmp_path / "image", "parallels", "4M")
    scribble(path, "parallels")
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size + (2 << 20))
    if "leaks" not in check(path, "parallels"):
        pytest.skip("this QEMU does not call it a leak")
    four_beats(path=str(path), format="parallels", repair="leaks")
    shows(path, "parallels")


def test_an_encrypted_image_is_checked_and_repaired(tmp_path: Path) -> None:
    path = tmp_path / "image"
    given = {
        "path": str(path),
        "format": "qcow2",
        "size": "4M",
        "options": {"encrypt_format": "luks", "encrypt_iter_time": 10},
        "encryption": {"secret": "geheim"},
    }
    prepared("disk_image", **given)
    leak(path)
    four_beats(**given, repair="leaks")


# --- while somebody uses it, which leaves nothing to be checked


def test_what_qemu_uses_is_neither_checked_nor_repaired(image: Path, tmp_path: Path) -> None:
    leak(image)
    other = create(tmp_path / "other", "qcow2", "4M")
    leak(other)
    with exported(image, "qcow2", tmp_path / "socket"):
        result = refused("image_in_use", path=str(image), format="qcow2", repair="leaks")
        assert [holder["name"] for holder in result["evidence"]["in_use_by"]] == ["qemu-nbd"]
        images = [{"path": str(image)}, {"path": str(other)}]
        result = call("disk_image", images=images, format="qcow2", repair="all", on_in_use="skip")
    assert [entry.get("skipped_reason") for entry in result["images"]] == ["image_in_use", None]
    assert "leaks" not in check(other, "qcow2")


def test_a_repair_waits_for_who_uses_the_image(image: Path, tmp_path: Path) -> None:
    leak(image)
    with exported(image, "qcow2", tmp_path / "socket") as server:
        timer = threading.Timer(0.5, server.terminate)
        timer.start()
        result = call("disk_image", path=str(image), format="qcow2", repair="leaks", on_in_use="wait", wait_timeout=120)
        timer.join()
    assert result["actions"] == [f"Repair {image} (leaks): 2 leaked clusters and 0 corruptions."], result


def test_an_overlay_is_not_checked_while_its_base_is_written(image: Path, tmp_path: Path) -> None:
    overlay = create(tmp_path / "overlay", "qcow2", "", "", "-b", image, "-F", "qcow2")
    with exported(image, "qcow2", tmp_path / "socket"):
        result = refused("image_in_use", path=str(overlay), format="qcow2", repair="leaks")
    assert str(image) in result["msg"]
