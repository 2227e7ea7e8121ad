"""External snapshots of hostile images, and names and records by which data could go: found by a review."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._snapshot import layer_records
from ansible_collections.platter.qemu.tests.lab.beats import refused
from ansible_collections.platter.qemu.tests.lab.guest import KIB, MIB, qemu_io, shows
from ansible_collections.platter.qemu.tests.lab.modules import call
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
