"""The images of one task among each other, by whatever names they are called: links, hard links, mounts, data files."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused
from ansible_collections.platter.qemu.tests.lab.guest import facts, scribble, shows
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img

FORMAT = {"format": "qcow2"}


def hard(path: Path) -> Path:
    other = path.with_name("hard")
    os.link(path, other)
    return other


def soft(path: Path) -> Path:
    other = path.with_name("soft")
    other.symlink_to(path.name)
    return other


@contextlib.contextmanager
def mounted_again(path: Path) -> Iterator[Path]:
    """The same directory at another place."""
    place = path.parent.parent / "again"
    place.mkdir()
    if subprocess.run(["mount", "--bind", path.parent, place], check=False).returncode:
        pytest.skip("needs root and mounts")
    try:
        yield place / path.name
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.fixture(params=[hard, soft, mounted_again])
def rename(request: pytest.FixtureRequest) -> Iterator[Callable[[Path], Path]]:
    """Gives another name to a file."""
    with contextlib.ExitStack() as stack:

        def renamed(path: Path) -> Path:
            other = request.param(path)
            return other if isinstance(other, Path) else stack.enter_context(other)

        yield renamed


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """With room beside it for a mount."""
    found = tmp_path / "images"
    found.mkdir()
    return found


def overlay(path: Path, base: Path) -> Path:
    return create(path, "qcow2", "", "", "-b", base, "-F", "qcow2")


CHANGES: list[dict[str, Any]] = [{"size": "8M", **FORMAT}, {"state": "absent"}]


@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize("staying", [{}, {"options": {"lazy_refcounts": True}}], ids=str)
def test_an_overlay_stays_on_its_base_whatever_that_is_called(
    images: Path, rename: Callable[[Path], Path], change: dict[str, Any], staying: dict[str, Any]
) -> None:
    base = create(images / "base", "qcow2", "4M")
    top = overlay(images / "top", rename(base))
    both = [{"path": str(base), **change}, {"path": str(top), **FORMAT, **staying}]
    result = call("disk_image", images=both, fail_fast=False)
    assert result["images"][0]["reason"] == "has_overlays"
    assert facts(base, "qcow2")["virtual-size"] == 4 << 20


def test_an_overlay_leaves_its_base_before_that_goes_whatever_it_is_called(
    images: Path, rename: Callable[[Path], Path]
) -> None:
    base = create(images / "base", "qcow2", "4M")
    scribble(base, "qcow2")
    top = overlay(images / "top", rename(base))
    four_beats(images=[{"path": str(base), "state": "absent"}, {"path": str(top), **FORMAT, "flatten": True}])
    shows(top, "qcow2")
    assert not base.exists()


def test_a_removed_name_of_an_overlay_leaves_the_others(images: Path) -> None:
    base = create(images / "base", "qcow2", "4M")
    top = overlay(images / "top", base)
    hard(top)
    result = refused("has_overlays", state="absent", images=[{"path": str(base)}, {"path": str(top)}])
    assert result["evidence"]["overlays"] == [str(images / "hard")]


def test_a_rewritten_overlay_leaves_its_base_first(images: Path) -> None:
    base = create(images / "base", "qcow2", "4M")
    scribble(base, "qcow2")
    top = overlay(images / "top", base)
    rewritten = {"path": str(top), "format": "vhdx", "current_format": "qcow2", "allow_rewrite": True}
    four_beats(images=[{"path": str(base), "state": "absent"}, rewritten])
    shows(top, "vhdx")


@pytest.mark.parametrize("link", [None, soft])
def test_no_image_is_put_on_a_base_that_the_task_removes(images: Path, link: Callable[[Path], Path] | None) -> None:
    base = create(images / "base", "qcow2", "4M")
    backing = {"path": str(link(base) if link else base), "format": "qcow2"}
    both = [{"path": str(base), "state": "absent"}, {"path": str(images / "new"), **FORMAT, "backing": backing}]
    assert refused("base_missing", images=both)["evidence"] == {"backing_file": str(base)}


def test_a_source_is_removed_after_what_is_made_from_it_whatever_it_is_called(
    images: Path, rename: Callable[[Path], Path]
) -> None:
    source = create(images / "source", "qcow2", "4M")
    scribble(source, "qcow2")
    new = {"path": str(images / "new"), **FORMAT, "source": {"path": str(rename(source)), "format": "qcow2"}}
    prepared("disk_image", images=[{"path": str(source), "state": "absent"}, new], workers=1)
    assert not source.exists()
    shows(images / "new", "qcow2")


def test_a_source_that_is_still_to_be_made_may_be_called_by_a_link_to_its_directory(images: Path) -> None:
    (images.parent / "link").symlink_to("images")
    made = {"path": str(images / "made"), **FORMAT, "size": "4M"}
    copy = {"path": str(images / "copy"), "format": "raw"}
    copy["source"] = {"path": str(images.parent / "link" / "made"), "format": "qcow2"}
    four_beats(images=[copy, made])


@pytest.mark.parametrize("rebase", ["safe", "unsafe"])
def test_a_loop_through_another_name_of_the_image_is_found(images: Path, rebase: str) -> None:
    image, below = create(images / "image", "qcow2", "4M"), images.parent / "below"
    below.mkdir()
    (below / "hard").hardlink_to(image)
    base = create(below / "base", "qcow2", "", "", "-b", below / "hard", "-F", "qcow2")
    backing = {"path": str(base), "format": "qcow2", "rebase": rebase}
    refused("backing_loop", path=str(image), **FORMAT, backing=backing)


NAMES = ["file:base", 'json:{"driver":"qcow2","file":{"driver":"file","filename":"base"}}']


@pytest.mark.parametrize("name", NAMES)
def test_an_overlay_made_in_its_directory_is_found(images: Path, name: str) -> None:
    """QEMU looks for such a base in the directory where it is started."""
    base = create(images / "base", "qcow2", "4M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", name, "-F", "qcow2", "top", cwd=images)
    assert refused("has_overlays", path=str(base), state="absent")["evidence"] == {"overlays": [str(images / "top")]}


def test_a_neighbour_that_nobody_can_read_is_named_or_passed_over(images: Path) -> None:
    """/proc/self/mem is a file that has no end. Another user's link to it stops nobody; one of root's may be a mistake."""
    link, task = images / "link", {"path": str(images / "image"), **FORMAT}
    prepared("disk_image", **task, size="1M")
    link.symlink_to("/proc/self/mem")
    failed = call("disk_image", **task, size="2M")
    assert failed["failed"] and str(link) in failed["msg"] and "exception" not in failed
    os.lchown(link, 65534, 65534)
    four_beats(**task, size="2M")


def test_an_overlay_that_a_program_has_made_over_a_raw_image_of_ours_is_found(images: Path) -> None:
    """The file, and what it remembers, stays the same."""
    base, top = create(images / "base", "qcow2", "4M"), images / "top"
    prepared("disk_image", path=str(top), format="raw", size="1M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top)
    assert refused("has_overlays", path=str(base), state="absent")["evidence"] == {"overlays": [str(top)]}
    assert "it was made raw, and looks like qcow2 now" in refused("format_mismatch", path=str(top), **FORMAT)["msg"]


# --- data files


def with_data(path: Path, data: Path) -> Path:
    return create(path, "qcow2", "4M", f"data_file={data},data_file_raw=on")


def test_a_data_file_stays_with_its_image(images: Path) -> None:
    image = with_data(images / "image", images / "data")
    both = [{"path": str(images / "data"), "state": "absent"}, {"path": str(image), **FORMAT}]
    assert refused("has_overlays", images=both)["evidence"] == {"overlays": [str(image)]}
    both[1] = {"path": str(image), "state": "absent"}
    four_beats(images=both)
    assert list(images.iterdir()) == []


def test_an_image_whose_data_file_is_in_use_is_in_use(images: Path) -> None:
    image = with_data(images / "image", images / "data")
    with (images / "data").open("r+b") as stream, subprocess.Popen(["sleep", "60"], stdin=stream) as user:
        text = refused("image_in_use", path=str(image), **FORMAT, size="8M")["msg"]
        assert f"open for writing, {images}/data" in text
        user.kill()


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_an_image_does_not_change_a_data_file_that_others_are_on(images: Path, change: dict[str, Any]) -> None:
    data, other = images / "data", images / "other"
    image, options = images / "image", {"options": {"data_file": str(data), "data_file_raw": True}}
    prepared("disk_image", path=str(image), **FORMAT, size="4M", **options)
    qemu_img("create", "-q", "-f", "qcow2", "-b", data, "-F", "raw", other, "4M")
    task = {"path": str(image), **change}
    result = refused("has_overlays", **task)
    assert (result["evidence"]["overlays"], str(data) in result["msg"]) == ([str(other)], True)
    other.unlink()
    four_beats(**task)


def test_an_image_goes_and_leaves_to_others_a_data_file_that_is_not_its_own(images: Path) -> None:
    image = with_data(images / "image", images / "data")
    qemu_img("create", "-q", "-f", "qcow2", "-b", images / "data", "-F", "raw", images / "other", "4M")
    four_beats(path=str(image), state="absent")
    assert sorted(path.name for path in images.iterdir()) == ["data", "other"]


# --- what goes with an image of the task


@pytest.fixture
def taken(images: Path) -> tuple[Path, Path]:
    """An image and the data file that it takes along."""
    image, data = images / "image", images / "data"
    prepared(
        "disk_image", path=str(image), **FORMAT, size="4M", options={"data_file": str(data), "data_file_raw": True}
    )
    scribble(image, "qcow2")
    return image, data


def test_an_image_takes_no_other_image_of_the_task_along(taken: tuple[Path, Path]) -> None:
    image, data = taken
    listed = [{"path": str(image), "state": "absent"}, {"path": str(data), "format": "raw"}]
    assert refused("file_listed", images=listed)["images"][0]["evidence"] == {"files": [str(data)]}
    base = {"path": str(data), "format": "raw"}
    listed[1] = {"path": str(image.parent / "new"), **FORMAT, "backing": base}
    assert f"is removed with {image} by the same task" in refused("base_missing", images=listed)["msg"]


def test_what_an_image_takes_along_is_imported_first(taken: tuple[Path, Path], rename: Callable[[Path], Path]) -> None:
    image, data = taken
    new = {"path": str(image.parent / "new"), **FORMAT, "source": {"path": str(rename(data)), "format": "raw"}}
    result = call("disk_image", images=[{"path": str(image), "state": "absent"}, new], workers=1)
    assert (result["changed"], data.exists()) == (True, False), result
    shows(image.parent / "new", "qcow2")


@pytest.mark.parametrize("change", [{"state": "absent"}, {"format": "qcow2", "allow_rewrite": True}], ids=str)
def test_a_member_is_imported_before_it_goes(images: Path, change: dict[str, Any]) -> None:
    split, member = images / "disk.vmdk", images / "disk-flat.vmdk"
    prepared("disk_image", path=str(split), format="vmdk", size="4M", options={"subformat": "monolithicFlat"})
    scribble(split, "vmdk")
    if "format" in change:
        change["current_format"] = "vmdk"
    new = {"path": str(images / "new"), **FORMAT, "source": {"path": str(member), "format": "raw"}}
    result = call("disk_image", images=[{"path": str(split), **change}, new], workers=1)
    assert (result["changed"], member.exists()) == (True, False), result
    shows(images / "new", "qcow2")


def test_a_removal_says_how_overlays_and_backups_of_them_go(images: Path) -> None:
    base = create(images / "base.qcow2", "qcow2", "4M")
    top = overlay(images / "top.qcow2", base)
    gone = {"path": str(base), "state": "absent"}
    assert "in the same list" in refused("has_overlays", **gone)["msg"]
    assert "in the same list" not in refused("has_overlays", path=str(base), size="8M", **FORMAT)["msg"]
    backup = call("disk_image", path=str(top), state="absent", backup=True)["backup_file"]
    told = refused("has_overlays", **gone)["msg"]
    assert told.endswith(f"{backup} is a backup, by its name: remove it, if it is not needed any more.")
    assert call("disk_image", state="absent", images=[{"path": str(base)}, {"path": backup}])["changed"]
    assert not list(images.iterdir())
