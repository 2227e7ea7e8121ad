"""Looking at any number of paths: what cannot be read is a fact of one of them, not an error of all."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._image.info_files import image_files
from ansible_collections.platter.qemu.plugins.module_utils._image.info_look import Looker
from ansible_collections.platter.qemu.plugins.module_utils._inspect.image import fingerprint
from ansible_collections.platter.qemu.plugins.module_utils._tools.build_directory import TEMP_PREFIX
from ansible_collections.platter.qemu.plugins.module_utils._tools.files import file_facts
from ansible_collections.platter.qemu.plugins.module_utils._tools.records import sidecar_path, write_record
from ansible_collections.platter.qemu.tests.lab.headers import descriptor, every_format, qcow2, vmdk, vpc

FORMATS = every_format()


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_bytes_tell_their_format(tmp_path: Path, name: str) -> None:
    format, data = FORMATS[name]
    (tmp_path / "image").write_bytes(data)
    view = Looker().view(str(tmp_path / "image"))
    assert (view.format, view.problem) == (format, None)
    assert view.certain is (format != "raw")


def look(path: Path, data: bytes, declared: str | None = None) -> t.Any:
    path.write_bytes(data)
    return Looker().view(str(path), declared)


def test_raw_is_certain_when_somebody_said_so(tmp_path: Path) -> None:
    nobody = look(tmp_path / "a", b"x" * 600)
    assert (nobody.format, nobody.certain, nobody.header.virtual_size) == ("raw", False, 1024)
    declared = look(tmp_path / "a", qcow2(), "raw")
    assert (declared.format, declared.certain, declared.detected) == ("raw", True, ("qcow2",))
    write_record(str(tmp_path / "a"), {"format": "raw"})
    assert (Looker().view(str(tmp_path / "a")).format, Looker().view(str(tmp_path / "a")).certain) == ("raw", True)


@pytest.mark.parametrize(
    ("data", "declared", "remembered", "reason", "format"),
    [
        (qcow2(), "vmdk", None, "format_mismatch", None),
        (b"nothing", "qcow2", None, "format_mismatch", None),
        (b"nothing", None, "qcow2", "format_mismatch", None),
        (qcow2(), "qcow2", "raw", "format_mismatch", None),
        (qcow2() + vpc(kind=2)[-512:], None, None, "format_ambiguous", None),
        (qcow2()[:80], None, None, "header_unreadable", None),
    ],
)
def test_a_problem_has_a_code(
    tmp_path: Path, data: bytes, declared: str | None, remembered: str | None, reason: str, format: str | None
) -> None:
    (tmp_path / "a").write_bytes(data)
    if remembered:
        write_record(str(tmp_path / "a"), {"format": remembered})
    view = Looker().view(str(tmp_path / "a"), declared)
    assert view.problem is not None
    assert (view.problem.reason, view.format, view.exists) == (reason, format, True)


def test_two_formats_are_told_apart_by_what_is_declared(tmp_path: Path) -> None:
    view = look(tmp_path / "a", qcow2() + vpc(kind=2)[-512:], "qcow2")
    assert (view.format, view.problem, view.detected) == ("qcow2", None, ("qcow2", "vpc"))


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nothing")
    looker = Looker()
    found = [looker.view(str(tmp_path / name)) for name in ("", "fifo", "loop", "dangling", "none", "fifo/below")]
    assert [view.problem.reason if view.problem else None for view in found] == [
        "not_a_file",
        "not_a_file",
        "unreadable",
        None,
        None,
        "unreadable",
    ]
    assert [view.exists for view in found] == [True, True, True, False, False, None]


# --- what else belongs to an image


def overlay(directory: Path, name: str, backing: str) -> Path:
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(qcow2(backing=backing, backing_format="raw"))
    return path


@pytest.mark.parametrize(
    ("backing", "found"),
    [("b", "sub/b"), ("../b", "b"), ("./x/../b", "sub/b"), ("/abs/./b", "/abs/b"), ("nbd://h/x", "nbd://h/x")],
)
def test_the_base_has_a_tidy_path(tmp_path: Path, backing: str, found: str) -> None:
    view = Looker().view(str(overlay(tmp_path, "sub/o", backing)))
    assert view.base == (found if ":" in found else os.path.join(tmp_path, found))


def test_dots_behind_a_symbolic_link_lead_where_the_kernel_goes(tmp_path: Path) -> None:
    (tmp_path / "real" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/sub")
    looker = Looker()
    assert looker.tidy(f"{tmp_path}/link/../b") == f"{tmp_path}/real/b"
    assert looker.tidy(f"{tmp_path}/link/./b") == f"{tmp_path}/link/b"


@pytest.mark.parametrize("key", ["base", "next_base"])
def test_a_changed_base_is_noticed(tmp_path: Path, key: str) -> None:
    (tmp_path / "b").write_bytes(b"base")
    path = overlay(tmp_path, "o", "b")
    assert Looker().view(str(path)).base_changed is None, "nothing is remembered"
    write_record(str(path), {key: fingerprint(file_facts(str(tmp_path / "b")))})
    assert Looker().view(str(path)).base_changed is False
    (tmp_path / "b").write_bytes(b"another")
    assert Looker().view(str(path)).base_changed is True
    (tmp_path / "b").unlink()
    assert Looker().view(str(path)).base_changed is None


def split(directory: Path, *extents: str) -> t.Any:
    lines = "\n".join(f'RW 2048 SPARSE "{name}"' for name in extents)
    return look(directory / "s.vmdk", descriptor(lines, create_type="twoGbMaxExtentSparse"))


def test_a_split_image_is_all_its_members(tmp_path: Path) -> None:
    for name in ("s-s001.vmdk", "s-s002.vmdk"):
        (tmp_path / name).write_bytes(vmdk(1 << 20))
    view = split(tmp_path, "s-s001.vmdk", "s-s002.vmdk", "s-s001.vmdk")
    assert view.members == tuple(str(tmp_path / name) for name in ("s.vmdk", "s-s001.vmdk", "s-s002.vmdk"))
    assert view.allocated == sum((tmp_path / name).stat().st_blocks * 512 for name in os.listdir(tmp_path))
    assert view.header.cluster_size == 65536 and view.problem is None


def test_a_member_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "s-s001.vmdk").write_bytes(vmdk(1 << 20))
    view = split(tmp_path, "s-s001.vmdk", "s-s002.vmdk")
    assert view.problem.reason == "member_missing" and "s-s002.vmdk" in view.problem.message
    assert view.header.virtual_size == 2 << 20


def test_a_member_elsewhere_is_named_and_not_opened(tmp_path: Path) -> None:
    view = split(tmp_path, "../s-s001.vmdk", "/etc/passwd")
    assert view.members == (str(tmp_path / "s.vmdk"),)
    assert [each.target for each in view.header.references] == ["../s-s001.vmdk", "/etc/passwd"]


def test_thousands_of_members_need_no_thousands_of_open_files(tmp_path: Path) -> None:
    names = [f"s-{number}.vmdk" for number in range(1500)]
    first = tmp_path / names[0]
    first.write_bytes(vmdk(1 << 20))
    for name in names[1:]:
        os.link(first, tmp_path / name)
    assert split(tmp_path, *names).problem is None


# --- a directory


def test_a_directory_gives_files_by_name_and_nothing_of_ours(tmp_path: Path) -> None:
    for name in ("b", "a", ".hidden", TEMP_PREFIX + "x.y", os.path.basename(sidecar_path("a"))):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "dangling").symlink_to("none")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / (TEMP_PREFIX + "d.z")).mkdir()
    os.mkfifo(tmp_path / "fifo")
    found, warnings = image_files(str(tmp_path), False, ["*"])
    assert [os.path.relpath(path, tmp_path) for path in found] == [".hidden", "a", "b", "link"]
    assert warnings == []


def test_directories_below_are_searched_when_asked(tmp_path: Path) -> None:
    for name in ("z", "sub/x.raw", "sub/deep/y.raw", TEMP_PREFIX + "d.z/n.raw"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "sub" / "up").symlink_to("..")
    found, _warnings = image_files(str(tmp_path), True, ["*.raw", "z"])
    assert [os.path.relpath(path, tmp_path) for path in found] == ["z", "sub/x.raw", "sub/deep/y.raw"]
    assert image_files(str(tmp_path), False, ["*.raw"])[0] == []


def test_a_directory_that_is_none_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "none", tmp_path / "file"):
        found, warnings = image_files(str(path), True, ["*"])
        assert found == [] and len(warnings) == 1 and str(path) in warnings[0]
