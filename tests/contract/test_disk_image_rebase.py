"""Rebasing and flattening: what the guest sees stays the same, and a base that has changed is noticed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import digest, four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.guest import KIB, MIB, facts, guest_digest, qemu_io, scribble, shows
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img

OLD = ((0x11, 0, MIB), (0x12, 2 * MIB, MIB))
NEW = ((0x21, 0, 256 * KIB), (0x22, 3 * MIB, MIB))
OWN = ((0x33, 512 * KIB, 128 * KIB),)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return base_of(tmp_path / "old.qcow2", OLD)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return base_of(tmp_path / "new.qcow2", NEW)


@pytest.fixture
def overlay(tmp_path: Path, old: Path) -> Path:
    path = tmp_path / "overlay.qcow2"
    prepared("disk_image", **over(path, old))
    scribble(path, "qcow2", OWN)
    return path


def base_of(path: Path, patterns: Any, format: str = "qcow2") -> Path:
    create(path, format, "4M")
    scribble(path, format, patterns)
    return path


def over(path: object, base: object, format: str = "qcow2", **more: Any) -> dict[str, Any]:
    return {"path": str(path), "format": "qcow2", "backing": {"path": str(base), "format": format, **more}}


def test_the_guest_sees_the_same_over_another_base(overlay: Path, old: Path, new: Path) -> None:
    seen, bases = guest_digest(overlay, "qcow2"), (digest(old), digest(new))
    result = four_beats(**over(overlay, new))
    assert result["actions"] == [f"Rebase {overlay} onto {new} (qcow2), keeping what the guest sees."]
    assert guest_digest(overlay, "qcow2") == seen
    assert facts(overlay, "qcow2")["backing-filename"] == str(new)
    assert (digest(old), digest(new)) == bases


@pytest.mark.parametrize("format", ["raw", "vmdk", "qcow2"])
def test_the_new_base_may_be_of_any_format(overlay: Path, tmp_path: Path, format: str) -> None:
    base = base_of(tmp_path / "other", NEW, format)
    seen = guest_digest(overlay, "qcow2")
    four_beats(**over(overlay, base, format))
    assert guest_digest(overlay, "qcow2") == seen


@pytest.mark.parametrize("size", ["2M", "8M"])
def test_the_new_base_may_be_shorter_or_longer(overlay: Path, tmp_path: Path, size: str) -> None:
    base = create(tmp_path / "other.qcow2", "qcow2", size)
    scribble(base, "qcow2", ((0x66, 0, 2 * MIB),))
    seen = guest_digest(overlay, "qcow2")
    four_beats(**over(overlay, base))
    assert guest_digest(overlay, "qcow2") == seen


def test_an_image_without_a_base_can_be_given_one(tmp_path: Path, new: Path) -> None:
    alone = base_of(tmp_path / "alone.qcow2", OLD)
    seen = guest_digest(alone, "qcow2")
    four_beats(**over(alone, new))
    assert guest_digest(alone, "qcow2") == seen
    assert facts(alone, "qcow2")["backing-filename"] == str(new)


def test_what_cannot_say_zero_is_given_a_base_with_compat_1_1_only(tmp_path: Path, new: Path) -> None:
    alone = create(tmp_path / "alone.qcow2", "qcow2", "4M", "compat=0.10,cluster_size=4096")
    scribble(alone, "qcow2", OWN)
    seen, asked = guest_digest(alone, "qcow2"), over(alone, new)
    refused("exists_different", **asked)
    result = four_beats(**asked, options={"compat": "1.1"})
    assert result["actions"][0] == f"Amend {alone}: compat from 0.10 to 1.1."
    assert guest_digest(alone, "qcow2") == seen


@pytest.mark.parametrize("flat", [True, False], ids=["flattened", "another base"])
def test_snapshots_go_on_showing_what_they_took_from_the_base(overlay: Path, new: Path, flat: bool) -> None:
    asked = {"path": str(overlay), "format": "qcow2", "flatten": True} if flat else over(overlay, new)
    qemu_img("snapshot", "-c", "before", overlay)
    refused("would_lose_snapshots", **asked)
    qemu_img("snapshot", "-d", "before", overlay)
    four_beats(**asked)


def test_an_unsafe_rebase_changes_the_reference_only(overlay: Path, new: Path) -> None:
    result = four_beats(**over(overlay, new, rebase="unsafe"))
    assert "changing the reference only: asked for by backing.rebase=unsafe" in result["actions"][0]
    shows(overlay, "qcow2", (*OWN, (0x21, 0, 256 * KIB), (0x22, 3 * MIB, MIB)))


def test_a_base_that_was_moved_is_recognised(overlay: Path, old: Path, tmp_path: Path) -> None:
    seen = guest_digest(overlay, "qcow2")
    moved = tmp_path / "moved.qcow2"
    os.rename(old, moved)
    result = four_beats(**over(overlay, moved))
    assert "changing the reference only: it is the same file, moved" in result["actions"][0]
    assert guest_digest(overlay, "qcow2") == seen


def test_without_its_base_an_overlay_is_not_given_another(overlay: Path, old: Path, new: Path) -> None:
    old.unlink()
    refused("base_missing", **over(overlay, new))


def test_a_changed_base_is_noticed(overlay: Path, old: Path) -> None:
    scribble(old, "qcow2", ((0x99, MIB, KIB),))
    refused("base_changed", **over(overlay, old))
    refused("base_changed", path=str(overlay), format="qcow2", flatten=True)
    refused("base_changed", path=str(overlay), format="qcow2", size="8M")


def test_a_changed_base_is_accepted_once(overlay: Path, old: Path) -> None:
    scribble(old, "qcow2", ((0x99, MIB, KIB),))
    result = four_beats(**over(overlay, old, accept_changed=True))
    assert result["actions"] == [f"Accept that {old}, the backing file of {overlay}, has changed."]
    settled(**over(overlay, old))


@pytest.mark.parametrize("task", [{"flatten": True}, {"size": "8M"}], ids=str)
def test_a_base_that_was_touched_is_accepted_by_the_way_that_the_refusal_tells(
    overlay: Path, old: Path, task: dict[str, Any]
) -> None:
    seen, then = guest_digest(overlay, "qcow2"), old.stat()
    os.utime(old, ns=(0, 1_000_000_005))
    asked = {"path": str(overlay), "format": "qcow2", **task}
    refusal = refused("base_changed", **asked)
    assert "by its modification time, 1970-01-01 00:00:01.000000005 UTC, and not 20" in refusal["msg"]
    assert (
        "its length is the same. " in refusal["msg"] and "(a base that was only touched, or put back" in refusal["msg"]
    )
    size = then.st_size
    assert refusal["evidence"] == {
        "backing_file": str(old),
        "then": {"size": size, "mtime_ns": then.st_mtime_ns},
        "now": {"size": size, "mtime_ns": 1_000_000_005},
    }
    assert "set backing.accept_changed to true once, with backing.path and backing.format" in refusal["msg"]
    assert ("in a task without flatten" in refusal["msg"]) == ("flatten" in task)
    four_beats(**over(overlay, old, accept_changed=True))
    four_beats(**asked)
    assert facts(overlay, "qcow2")["virtual-size"] == (8 * MIB if "size" in task else 4 * MIB)
    assert "size" in task or guest_digest(overlay, "qcow2") == seen


def test_a_base_put_back_without_its_times_is_the_same_with_them(overlay: Path, old: Path, tmp_path: Path) -> None:
    shutil.copy2(old, tmp_path / "backup")
    os.truncate(old, old.stat().st_size + 512)
    told = refused("base_changed", **over(overlay, old))["msg"]
    assert "bytes, and had %d. " % (tmp_path / "backup").stat().st_size in told
    assert "Restore the base, with its times (cp -p, rsync --times); or" in told
    shutil.copyfile(tmp_path / "backup", old)
    assert (
        "else restore it with its times (cp -p, rsync --times)." in refused("base_changed", **over(overlay, old))["msg"]
    )
    subprocess.run(["cp", "-p", tmp_path / "backup", old], check=True)
    settled(**over(overlay, old))


@pytest.mark.parametrize("mtime", ["yesterday", 10**40, None])
def test_a_record_that_tells_no_time_is_told_of_all_the_same(overlay: Path, old: Path, mtime: Any) -> None:
    record = json.loads(os.getxattr(overlay, "user.platter.qemu"))
    record["base"]["mtime_ns"] = mtime
    os.setxattr(overlay, "user.platter.qemu", json.dumps(record).encode())
    assert "and not %s ns; " % (mtime,) in refused("base_changed", **over(overlay, old))["msg"]


def test_what_is_remembered_of_another_base_says_nothing(overlay: Path, new: Path) -> None:
    qemu_img("rebase", "-u", "-b", new, "-F", "qcow2", overlay)
    settled(**over(overlay, new))
    assert call("disk_image_info", paths=[str(overlay)])["images"][0]["base_changed"] is None
    four_beats(path=str(overlay), format="qcow2", size="8M")


def test_a_base_restored_with_its_times_is_the_same(overlay: Path, old: Path, tmp_path: Path) -> None:
    shutil.copy2(old, tmp_path / "backup")
    old.unlink()
    shutil.copy2(tmp_path / "backup", old)
    settled(**over(overlay, old))


def test_an_overlay_made_by_others_has_no_known_base(tmp_path: Path, old: Path) -> None:
    overlay = create(tmp_path / "hand.qcow2", "qcow2", "", "", "-b", old, "-F", "qcow2")
    scribble(old, "qcow2", ((0x99, MIB, KIB),))
    settled(**over(overlay, old))


def test_a_flattened_image_stands_for_itself(overlay: Path, old: Path) -> None:
    seen = guest_digest(overlay, "qcow2")
    result = four_beats(path=str(overlay), format="qcow2", flatten=True)
    assert result["actions"][0].startswith("Flatten ")
    assert "backing-filename" not in facts(overlay, "qcow2")
    old.unlink()
    assert guest_digest(overlay, "qcow2") == seen


def test_only_the_top_of_a_chain_is_flattened(overlay: Path, old: Path, tmp_path: Path) -> None:
    top = tmp_path / "top.qcow2"
    prepared("disk_image", **over(top, overlay))
    scribble(top, "qcow2", ((0x44, 3 * MIB, MIB),))
    seen, below = guest_digest(top, "qcow2"), (digest(overlay), digest(old))
    four_beats(path=str(top), format="qcow2", flatten=True)
    assert guest_digest(top, "qcow2") == seen
    assert (digest(overlay), digest(old)) == below


def test_what_has_no_base_is_flat_already(old: Path) -> None:
    settled(path=str(old), format="qcow2", flatten=True)


def test_both_a_base_and_none_cannot_be(overlay: Path, old: Path) -> None:
    refused("bad_option", **over(overlay, old), flatten=True)


def test_without_its_base_nothing_can_be_flattened(overlay: Path, old: Path) -> None:
    old.unlink()
    refused("base_missing", path=str(overlay), format="qcow2", flatten=True)


def test_without_its_base_a_broken_overlay_can_be_removed(overlay: Path, old: Path) -> None:
    old.unlink()
    four_beats(path=str(overlay), state="absent")


def test_discarded_clusters_of_an_overlay_stay_zero(overlay: Path, old: Path, new: Path) -> None:
    qemu_io(overlay, "qcow2", f"write -q -z {2 * MIB} {MIB}")
    four_beats(**over(overlay, new))
    shows(overlay, "qcow2", ((0, 2 * MIB, MIB),))


def test_a_qed_overlay_is_rebased(tmp_path: Path, old: Path, new: Path) -> None:
    overlay = create(tmp_path / "overlay.qed", "qed", "", "", "-b", old, "-F", "qcow2")
    scribble(overlay, "qed", OWN)
    seen = guest_digest(overlay, "qed")
    four_beats(**{**over(overlay, new), "format": "qed"})
    assert guest_digest(overlay, "qed") == seen


def test_options_and_another_base_in_one_task(overlay: Path, new: Path) -> None:
    four_beats(**over(overlay, new), options={"lazy_refcounts": True})
    told = facts(overlay, "qcow2")
    assert told["backing-filename"] == str(new) and told["format-specific"]["data"]["lazy-refcounts"] is True
    shows(overlay, "qcow2", OWN)
