"""Overlays that lie in no directory of the task, and are known all the same: a base is not changed under them."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused
from ansible_collections.platter.qemu.tests.lab.guest import scribble, shows
from ansible_collections.platter.qemu.tests.lab.loops import HAVE_LOOPS, attached
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create

FORMAT = {"format": "qcow2"}
CHANGES: list[dict[str, Any]] = [{"state": "absent"}, {"size": "8M", **FORMAT}]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "elsewhere").mkdir()
    path = create(tmp_path / "images" / "base", "qcow2", "4M")
    scribble(path, "qcow2")
    return path


def overlay(path: Path, base: Path) -> Path:
    return create(path, "qcow2", "", "", "-b", base, "-F", "qcow2")


def counted(overlays: list[object], **task: Any) -> None:
    """The task is refused because of exactly these."""
    assert refused("has_overlays", **task)["evidence"]["overlays"] == list(map(str, overlays))


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_one_in_the_middle_of_a_chain_of_the_task(base: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    middle = overlay(tmp_path / "elsewhere" / "middle", base)
    top = overlay(base.with_name("top"), middle)
    counted([middle], images=[{"path": str(base), **change}, {"path": str(top), **FORMAT, "flatten": True}])
    new = {"path": str(base.with_name("new")), **FORMAT, "backing": {"path": str(middle), **FORMAT}}
    counted([middle], images=[{"path": str(base), **change}, new])


def test_a_source_that_is_trusted(base: Path, tmp_path: Path) -> None:
    source = {"path": str(overlay(tmp_path / "elsewhere" / "source", base)), **FORMAT, "trusted": True}
    new = {"path": str(base.with_name("new")), **FORMAT, "source": source}
    counted([source["path"]], images=[{"path": str(base), "state": "absent"}, new])


@pytest.fixture
def device(base: Path, tmp_path: Path) -> Iterator[str]:
    """With an overlay on it."""
    if not HAVE_LOOPS:
        pytest.skip("needs loop devices")
    blank = tmp_path / "elsewhere" / "blank"
    blank.touch()
    os.truncate(blank, 8 << 20)
    with attached(blank) as found:
        made = call("disk_image", path=found, **FORMAT, backing={"path": str(base), **FORMAT})
        assert made["changed"], made
        blank.unlink()
        yield found


def test_one_on_a_block_device(base: Path, tmp_path: Path, device: str) -> None:
    change = {"path": str(base), **FORMAT, "size": "8M"}
    counted([device], images=[{"path": device, **FORMAT}, change])
    links = tmp_path / "links"
    links.mkdir()
    (links / "disk").symlink_to(device)
    counted([links / "disk"], **change, overlay_directories=[str(links)])
    found = call("disk_image_info", paths=[str(base)], overlay_directories=[str(links)])
    assert found["images"][0]["dependents"] == [str(links / "disk")]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_one_that_was_made_for_a_snapshot(base: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    top = tmp_path / "elsewhere" / "top"
    taken = {"image": str(base), **FORMAT, "kind": "external", "name": "s1", "overlay": str(top), "switch": "none"}
    assert call("image_snapshot", **taken)["changed"]
    counted([top], path=str(base), **change)
    top.unlink()
    four_beats(path=str(base), **change)


def test_the_image_of_a_data_file(base: Path, tmp_path: Path) -> None:
    data = tmp_path / "elsewhere" / "data"
    image = {"path": str(base.with_name("image")), **FORMAT, "size": "4M", "options": {"data_file": str(data)}}
    prepared("disk_image", **image)
    counted([image["path"]], path=str(data), state="absent")
    counted([image["path"]], path=str(data), format="raw", size="8M")


@pytest.mark.parametrize("foreign", ["/proc/self/mem", "relative", "/no\0name", "image"])
def test_what_a_record_says_is_believed_by_the_other_header_only(base: Path, foreign: str) -> None:
    other = str(create(base.with_name("other"), "qcow2", "4M")) if foreign == "image" else foreign
    record = '{"snapshot": {"name": "s", "overlays": ["%s"]}, "data_of": "%s"}' % (other, other)
    os.setxattr(base, "user.platter.qemu", record.replace("\0", "\\u0000").encode())
    result = call("disk_image", path=str(base), **FORMAT, size="8M", check=True)
    assert result["changed"], result


def test_the_backup_of_an_overlay_that_is_removed(base: Path) -> None:
    top = overlay(base.with_name("top"), base)
    gone = {"path": str(base), "state": "absent"}
    counted([top], images=[{"path": str(top), "state": "absent", "backup": True}, gone])
    four_beats(images=[{"path": str(top), "state": "absent"}, gone])


def test_the_backup_of_an_overlay_that_is_rewritten(base: Path) -> None:
    top = overlay(base.with_name("top"), base)
    other = {"path": str(top), "format": "vmdk", "current_format": "qcow2", "allow_rewrite": True, "flatten": True}
    gone = {"path": str(base), "state": "absent"}
    counted([top], images=[{**other, "backup": True}, gone])
    four_beats(images=[other, gone])
    shows(top, "vmdk")


def test_overlays_of_a_base_that_is_made_anew_are_named(base: Path) -> None:
    top, gone = overlay(base.with_name("top"), base), overlay(base.with_name("gone"), base)
    base.unlink()
    images = [{"path": str(base), **FORMAT, "size": "4M"}, {"path": str(gone), "state": "absent"}]
    result = four_beats(images=images)
    assert f"under 1 overlay made on the one that is gone ({top})" in str(result["warnings"])


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_one_whose_snapshots_cannot_be_read(base: Path, change: dict[str, Any]) -> None:
    top = overlay(base.with_name("top"), base)
    with top.open("r+b") as stream:
        stream.seek(60)
        stream.write(struct.pack(">IQ", 1, 1 << 40))
    counted([top], path=str(base), **change)
