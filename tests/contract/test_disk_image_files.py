"""The image as a file: owner, group, mode, backup, links, and what else can lie at its path."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic

from ansible_collections.platter.qemu.tests.lab.beats import digest, four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.guest import facts, scribble, shows
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")


def task(path: object, **more: Any) -> dict[str, Any]:
    return {"path": str(path), "format": "qcow2", "size": "4M", **more}


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.qcow2"
    prepared("disk_image", **task(path))
    scribble(path, "qcow2")
    return path


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("0640", 0o640), ("640", 0o640), (0o644, 0o644), ("u=rw,g=r,o=", 0o640), ("g+r,o+r", 0o644), ("u=rwX", 0o600)],
)
@pytest.mark.parametrize("there", [True, False])
def test_the_mode_is_set(tmp_path: Path, asked: Any, expected: int, there: bool) -> None:
    path = tmp_path / "image"
    if there:
        prepared("disk_image", **task(path))
        path.chmod(0o604 if expected == 0o640 and asked != "g+r,o+r" else 0o600)
    if there and expected == mode(path):
        settled(**task(path, mode=asked))
        return
    four_beats(**task(path, mode=asked))
    assert mode(path) == expected


@pytest.mark.parametrize("asked", [600, 640, 644, 660, 664, 666, 400, 440, 444, 755, 777])
def test_a_mode_that_lost_its_quotes_is_refused(tmp_path: Path, asked: int) -> None:
    """YAML says 644 for C(mode: 644), which is 01204 in octal."""
    result = refused("bad_option", **task(tmp_path / "image", mode=asked))
    assert f"write '0{asked}'" in result["msg"]


@pytest.mark.parametrize("asked", [0o600, 0o640, 0o644, 0o660, 0o664, 0o666, 0o400, 0o440, 0o444])
def test_a_mode_that_yaml_read_as_octal_is_taken(tmp_path: Path, asked: int) -> None:
    """YAML says 420 for C(mode: 0644)."""
    four_beats(**task(tmp_path / "image", mode=asked))
    assert mode(tmp_path / "image") == asked


def test_a_new_image_is_for_its_owner_only_and_an_old_one_keeps_its_mode(image: Path) -> None:
    assert mode(image) == 0o600
    image.chmod(0o644)
    settled(**task(image))
    four_beats(**task(image, options={"cluster_size": "32K"}, allow_rewrite=True))
    assert mode(image) == 0o644


@as_root
@pytest.mark.parametrize(("owner", "group"), [("daemon", "daemon"), ("1", "1"), ("daemon", None), (None, "daemon")])
def test_owner_and_group_are_set(image: Path, owner: str | None, group: str | None) -> None:
    asked = {key: value for key, value in (("owner", owner), ("group", group)) if value}
    result = four_beats(**task(image, **asked))
    assert {key: result["image"][key] for key in asked} == dict.fromkeys(asked, "daemon")
    assert image.stat().st_uid == (1 if owner else 0)
    assert image.stat().st_gid == (1 if group else 0)
    shows(image, "qcow2")


@as_root
def test_a_new_image_has_its_owner_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / "image"
    result = four_beats(**task(path, owner="daemon", group="daemon", mode="0640"))
    assert len(result["actions"]) == 1
    assert (path.stat().st_uid, mode(path)) == (1, 0o640)


@pytest.mark.parametrize("wrong", [{"owner": "nobody-here"}, {"group": "nobody-here"}, {"mode": "rwx"}, {"mode": "99"}])
def test_an_owner_or_mode_that_cannot_be_leaves_nothing(tmp_path: Path, wrong: dict[str, str]) -> None:
    for check in (True, False):
        result = call("disk_image", check=check, **task(tmp_path / "image", **wrong))
        assert (result["failed"], result["changed"]) == (True, False)
        assert list(tmp_path.iterdir()) == []


def test_the_content_is_not_touched_by_a_mode(image: Path) -> None:
    before, inode = digest(image), image.stat().st_ino
    four_beats(**task(image, mode="0444"))
    assert (digest(image), image.stat().st_ino) == (before, inode)


def test_a_read_only_golden_image_is_a_base(image: Path, tmp_path: Path) -> None:
    prepared("disk_image", **task(image, mode="0444"))
    overlay = tmp_path / "overlay"
    four_beats(path=str(overlay), format="qcow2", backing={"path": str(image), "format": "qcow2"})
    shows(overlay, "qcow2")


@as_root
def test_file_attributes_are_set(image: Path) -> None:
    four_beats(**task(image, attributes="+A"))
    told = subprocess.run(["lsattr", image], capture_output=True, text=True, check=True).stdout
    assert "A" in told.split()[0]
    four_beats(**task(image, attributes="-A"))


@pytest.mark.skipif(os.path.exists("/sys/fs/selinux/enforce"), reason="this host has SELinux")
def test_file_attributes_that_fail_are_the_failure_of_one_image(tmp_path: Path) -> None:
    """No flag is called Z."""
    data = tmp_path / "1.data"
    images = [{**task(tmp_path / str(number)), "attributes": "+Z" if number else None} for number in range(3)]
    images[1]["options"] = {"data_file": str(data)}
    result = call("disk_image", images=images, fail_fast=False)
    assert [each.get("failed", False) for each in result["images"]] == [False, True, True], result
    assert result["changed"] and "chattr failed" in result["images"][1]["msg"]
    assert data.exists() and facts(tmp_path / "1", "qcow2")["virtual-size"]
    settled(**{**images[1], "attributes": None})


def test_a_place_that_cannot_be_looked_at_ends_no_list(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    images = [task(tmp_path / "loop" / "a"), task(tmp_path / "a"), task(tmp_path / ("n" * 300) / "a")]
    result = call("disk_image", images=images, fail_fast=False)
    assert [each.get("failed", False) for each in result["images"]] == [True, False, True], result


def test_a_context_is_ignored_where_there_is_no_selinux(tmp_path: Path) -> None:
    """As in every Ansible file module, so that one play serves hosts with and without."""
    context = {"seuser": "system_u", "serole": "object_r", "setype": "virt_image_t", "selevel": "s0"}
    four_beats(**task(tmp_path / "image", **context))


# --- removing


def test_an_image_is_removed(image: Path) -> None:
    result = four_beats(path=str(image), state="absent")
    assert result["actions"] == [f"Remove {image}."]
    assert list(image.parent.iterdir()) == []


def test_what_is_removed_can_be_kept(image: Path) -> None:
    before = digest(image)
    result = four_beats(path=str(image), state="absent", backup=True)
    assert digest(result["backup_file"]) == before
    assert not image.exists()


def test_only_the_declared_format_is_removed(image: Path) -> None:
    refused("format_mismatch", path=str(image), state="absent", format="vmdk")
    four_beats(path=str(image), state="absent", format="qcow2")


def test_what_is_absent_needs_no_directory(tmp_path: Path) -> None:
    settled(path=str(tmp_path / "none" / "image"), state="absent")


# --- links, and what is no image


def test_a_link_is_followed_and_stays(image: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "disk"
    link.symlink_to(image)
    result = four_beats(**task(link, options={"cluster_size": "32K"}, allow_rewrite=True))
    assert result["image"]["path"] == str(image)
    assert link.is_symlink() and facts(image, "qcow2")["cluster-size"] == 32768


def test_a_directory_that_is_a_link_is_followed(image: Path, tmp_path: Path) -> None:
    link = tmp_path / "dir"
    link.symlink_to(image.parent)
    settled(**task(link / image.name))


def test_a_dangling_link_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "none")
    refused("dangling_symlink", **task(link))


def test_a_link_to_what_was_removed_is_absent_too(image: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(image)
    assert four_beats(path=str(tmp_path / "link"), state="absent")["changed"]
    assert not image.exists() and (tmp_path / "link").is_symlink()


def test_a_data_file_without_a_directory_is_refused(tmp_path: Path) -> None:
    refused("directory_missing", **task(tmp_path / "a", options={"data_file": str(tmp_path / "no" / "a.data")}))


def test_a_data_file_of_ours_goes_with_its_image(tmp_path: Path) -> None:
    """In its mode, and when a rewrite leaves it behind."""
    asked, data = task(tmp_path / "a"), tmp_path / "a.data"
    with_data = {**asked, "options": {"data_file": str(data)}}
    assert call("disk_image", **with_data)["changed"]
    four_beats(**with_data, mode="0640")
    assert mode(data) == 0o640
    scribble(tmp_path / "a", "qcow2")
    four_beats(**asked, options={"cluster_size": "4k"}, allow_rewrite=True)
    shows(tmp_path / "a", "qcow2")
    assert not data.exists()


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    refused("directory_missing", **task(tmp_path / "none" / "image"))


def test_a_directory_that_all_can_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    refused("unsafe_directory", **task(tmp_path / "open" / "image"))
    (tmp_path / "open").chmod(0o1777)
    four_beats(**task(tmp_path / "open" / "image"))


@as_root
def test_a_link_that_another_user_planted_is_refused(image: Path, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o1777)
    link = tmp_path / "open" / "image"
    link.symlink_to(image)
    os.lchown(link, 1, 1)
    refused("unsafe_directory", **task(link))


def directory(path: Path) -> None:
    path.mkdir()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def character_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)
        server.bind(path.name)


@pytest.mark.parametrize("make", [directory, fifo, character_device, listening], ids=lambda make: make.__name__)
@pytest.mark.parametrize("state", ["present", "absent"])
def test_what_is_no_file_is_refused(tmp_path: Path, make: Any, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "image"
    make(path)
    refused("not_a_file", path=str(path), state=state, format="qcow2", size="4M")


def test_an_empty_file_is_no_image(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.touch()
    refused("format_mismatch", **task(path))


def test_the_names_of_a_hard_linked_image_stay_one_file(image: Path, tmp_path: Path) -> None:
    os.link(image, tmp_path / "other")
    refused("hardlinked", **task(image, options={"cluster_size": "32K"}, allow_rewrite=True))
    four_beats(**{**task(image), "size": "8M"})
    assert facts(tmp_path / "other", "qcow2")["virtual-size"] == 8 << 20


def test_a_backup_that_a_killed_run_has_made_is_no_other_name_of_the_image(image: Path) -> None:
    """Killed between the second name for the old file and the first one for the new file."""
    made = Path(f"{image}.4711.2026-11-26@08:00:00~")
    os.link(image, made)
    old = digest(image)
    result = four_beats(**task(image, options={"cluster_size": "32K"}, allow_rewrite=True, backup=True))
    assert (result["backup_file"], digest(made), made.stat().st_nlink) == (str(made), old, 1)
    assert not os.path.samefile(made, image)


def test_a_missing_qemu_img_is_said_clearly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(basic.AnsibleModule, "get_bin_path", lambda *_a, **_k: None)
    result = call("disk_image", **task(tmp_path / "image"))
    assert (result["failed"], result["reason"], result["changed"]) == (True, "tool_missing", False)
    assert "qemu-utils" in result["msg"]


def test_an_image_that_is_as_asked_needs_no_qemu_img(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basic.AnsibleModule, "get_bin_path", lambda *_a, **_k: None)
    settled(**task(image))
