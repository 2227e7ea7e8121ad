"""Overlays: how the base is named, what it may be, and that it is never touched."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import digest, four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.guest import MIB, PATTERNS, facts, guest_digest, scribble, shows
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img

OWN = ((0x44, 2 * MIB, 128 << 10),)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_base(tmp_path / "base.qcow2")


def make_base(path: Path, format: str = "qcow2", size: str = "4M") -> Path:
    create(path, format, size)
    scribble(path, format)
    return path


def over(path: object, base: object, format: str = "qcow2", **more: Any) -> dict[str, Any]:
    """A task for an overlay; C(more) goes to backing, but for C(size)."""
    size = {"size": more.pop("size")} if "size" in more else {}
    return {"path": str(path), "format": "qcow2", "backing": {"path": str(base), "format": format, **more}, **size}


@pytest.mark.parametrize("format", ["raw", "qcow", "qcow2", "qed", "vdi", "vmdk", "vhdx", "vpc", "parallels"])
def test_a_base_of_every_format_is_seen_through_the_overlay(tmp_path: Path, format: str) -> None:
    base = make_base(tmp_path / "base", format)
    before = digest(base)
    overlay = tmp_path / "overlay.qcow2"
    result = four_beats(**over(overlay, base, format))
    assert result["image"]["backing"] == {"path": str(base), "format": format}
    told = facts(overlay, "qcow2")
    assert (told["backing-filename"], told["backing-filename-format"]) == (str(base), format)
    assert told["virtual-size"] == facts(base, format)["virtual-size"]
    scribble(overlay, "qcow2", OWN)
    shows(overlay, "qcow2", (*PATTERNS, *OWN))
    assert digest(base) == before


def test_a_smaller_overlay_needs_consent(tmp_path: Path, base: Path) -> None:
    """The guest would see a disk without its end. That end stays in the base."""
    task = over(tmp_path / "overlay", base, size="3M")
    result = refused("shrink_refused", **task)
    assert result["evidence"] == {"virtual_size": 4 * MIB, "size": 3 * MIB}
    four_beats(**task, allow_shrink=True)
    assert facts(tmp_path / "overlay", "qcow2")["virtual-size"] == 3 * MIB
    settled(**task)


def test_a_smaller_overlay_on_a_base_of_the_same_task_needs_consent(tmp_path: Path) -> None:
    below = {"path": str(tmp_path / "below"), "format": "qcow2", "size": "4M"}
    refused("shrink_refused", images=[over(tmp_path / "overlay", below["path"], size="3M"), below])


@pytest.mark.parametrize("format", ["qcow2", "qcow", "qed"])
def test_every_format_that_can_be_an_overlay(tmp_path: Path, base: Path, format: str) -> None:
    overlay = tmp_path / "overlay"
    four_beats(**{**over(overlay, base), "format": format})
    shows(overlay, format)


def test_a_vmdk_on_a_vmdk(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base.vmdk", "vmdk")
    overlay = tmp_path / "overlay.vmdk"
    four_beats(**{**over(overlay, base, "vmdk"), "format": "vmdk"})
    shows(overlay, "vmdk")


@pytest.mark.parametrize("format", ["raw", "vdi", "vhdx", "vpc", "parallels"])
def test_formats_without_backing_files_are_refused(tmp_path: Path, base: Path, format: str) -> None:
    refused("bad_option", **{**over(tmp_path / "image", base), "format": format})


def test_a_size_of_its_own(tmp_path: Path, base: Path) -> None:
    overlay = tmp_path / "overlay.qcow2"
    four_beats(**over(overlay, base, size="9M"))
    assert facts(overlay, "qcow2")["virtual-size"] == 9 * MIB
    shows(overlay, "qcow2", (*PATTERNS, (0, 4 * MIB, 5 * MIB)))


@pytest.mark.parametrize("where", ["other", "other/deeper", "."])
def test_a_base_in_another_directory_by_relative_name(tmp_path: Path, where: str) -> None:
    (tmp_path / where).mkdir(parents=True, exist_ok=True)
    base = make_base(tmp_path / where / "base.qcow2")
    (tmp_path / "overlays").mkdir()
    overlay = tmp_path / "overlays" / "overlay.qcow2"
    four_beats(**over(overlay, base, relative=True))
    assert not facts(overlay, "qcow2")["backing-filename"].startswith("/")
    shows(overlay, "qcow2")


def test_a_pair_with_a_relative_name_can_be_moved(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    base = make_base(tmp_path / "old" / "base:1.qcow2")
    four_beats(**over(tmp_path / "old" / "overlay.qcow2", base, relative=True))
    shutil.move(tmp_path / "old", tmp_path / "new")
    shows(tmp_path / "new" / "overlay.qcow2", "qcow2")
    settled(**over(tmp_path / "new" / "overlay.qcow2", tmp_path / "new" / "base:1.qcow2", relative=True))


def test_absolute_becomes_relative_by_the_reference_only(tmp_path: Path, base: Path) -> None:
    overlay = tmp_path / "overlay.qcow2"
    prepared("disk_image", **over(overlay, base))
    result = four_beats(**over(overlay, base, relative=True))
    assert "changing the reference only: it is the same file" in result["actions"][0]
    assert facts(overlay, "qcow2")["backing-filename"] == "base.qcow2"
    shows(overlay, "qcow2")


def test_a_link_to_the_base_is_resolved_so_that_switching_it_changes_nothing(tmp_path: Path, base: Path) -> None:
    link = tmp_path / "latest.qcow2"
    link.symlink_to(base)
    overlay = tmp_path / "overlay.qcow2"
    four_beats(**over(overlay, link))
    assert facts(overlay, "qcow2")["backing-filename"] == str(base)


def test_an_overlay_made_over_a_link_by_hand_is_right_as_it_is(tmp_path: Path, base: Path) -> None:
    """Or is given the real name; but its content is not rewritten, and the second run changes nothing."""
    link = tmp_path / "latest.qcow2"
    link.symlink_to(base)
    overlay = create(tmp_path / "overlay.qcow2", "qcow2", "", "", "-b", link, "-F", "qcow2")
    result = call("disk_image", **over(overlay, link))
    assert not result.get("failed")
    assert all("changing the reference only" in action for action in result["actions"])
    settled(**over(overlay, link))
    shows(overlay, "qcow2")


def test_a_missing_base_format_is_recorded(tmp_path: Path, base: Path) -> None:
    """Old images name no format; QEMU then guesses, and a guest could choose what its raw disk is."""
    overlay = create(tmp_path / "overlay.qcow2", "qcow2", "", "", "-b", base, "-F", "qcow2")
    _forget_format(overlay)
    four_beats(**over(overlay, base))
    assert facts(overlay, "qcow2")["backing-filename-format"] == "qcow2"


def _forget_format(overlay: Path) -> None:
    """The header extension 0xE2792ACA turned into an unknown one."""
    data = overlay.read_bytes()
    assert data.count(b"\xe2\x79\x2a\xca") == 1
    overlay.write_bytes(data.replace(b"\xe2\x79\x2a\xca", b"\x12\x34\x56\x78"))


def test_a_base_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refused("base_missing", **over(tmp_path / "overlay.qcow2", tmp_path / "none.qcow2"))


def test_a_base_of_another_format_is_refused(tmp_path: Path, base: Path) -> None:
    refused("format_mismatch", **over(tmp_path / "overlay.qcow2", base, "raw"))
    refused("format_mismatch", **over(tmp_path / "overlay.qcow2", base, "vmdk"))


def test_a_raw_base_whose_guest_wrote_a_header_needs_consent(tmp_path: Path) -> None:
    raw = make_base(tmp_path / "base.raw", "raw")
    with raw.open("r+b") as stream:
        stream.write(b"QFI\xfb\0\0\0\3")
    task = over(tmp_path / "overlay.qcow2", raw, "raw")
    refused("format_mismatch", **task)
    four_beats(**task, allow_nested_header=True)
    assert guest_digest(tmp_path / "overlay.qcow2", "qcow2") == guest_digest(raw, "raw")


def test_an_image_cannot_be_its_own_base(tmp_path: Path, base: Path) -> None:
    refused("bad_option", **over(base, base))


def test_a_base_that_leads_back_to_the_image_is_refused(tmp_path: Path, base: Path) -> None:
    overlay = tmp_path / "overlay.qcow2"
    prepared("disk_image", **over(overlay, base))
    refused("backing_loop", **over(base, overlay))


def test_a_base_whose_own_base_is_gone_is_refused(tmp_path: Path, base: Path) -> None:
    middle = tmp_path / "middle.qcow2"
    prepared("disk_image", **over(middle, base))
    base.unlink()
    refused("base_missing", **over(tmp_path / "overlay.qcow2", middle))


def test_a_loop_among_the_bases_is_refused(tmp_path: Path, base: Path) -> None:
    middle = tmp_path / "middle.qcow2"
    prepared("disk_image", **over(middle, base))
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", middle, "-F", "qcow2", base)
    refused("backing_loop", **over(tmp_path / "overlay.qcow2", middle))


def test_a_base_that_is_no_file_is_refused(tmp_path: Path) -> None:
    overlay = create(tmp_path / "overlay.qcow2", "qcow2", "4M", "", "-u", "-b", "/dev/zero", "-F", "raw")
    refused("backing_not_regular", **over(tmp_path / "top.qcow2", overlay))


def test_a_very_long_chain_is_refused(tmp_path: Path, base: Path) -> None:
    previous = base
    for number in range(201):
        link = tmp_path / f"{number}.qcow2"
        qemu_img("create", "-q", "-u", "-f", "qcow2", "-b", previous, "-F", "qcow2", link, "4M")
        previous = link
    refused("chain_too_long", **over(tmp_path / "top.qcow2", previous))


@pytest.mark.parametrize("options", [{"extended_l2": True, "preallocation": "metadata"}, {"cluster_size": "128K"}])
def test_an_overlay_takes_create_options(tmp_path: Path, base: Path, options: dict[str, Any]) -> None:
    overlay = tmp_path / "overlay.qcow2"
    four_beats(**over(overlay, base), options=options)
    shows(overlay, "qcow2")


def test_preallocation_over_a_base_needs_extended_l2(tmp_path: Path, base: Path) -> None:
    refused("bad_option", **over(tmp_path / "overlay.qcow2", base), options={"preallocation": "metadata"})
