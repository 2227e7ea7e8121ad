"""Who is built on a base, found in real directories."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import EngineError, HeaderError, RefusedError
from ansible_collections.platter.qemu.plugins.module_utils._inspect.dependents import (
    find_dependents,
    refuse_wrong_directories,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools.files import FileReader


def read_backing(path: str) -> str | None:
    """A format for these tests: C(B:) and the name of the backing file."""
    with open(path, "rb") as image:
        text = image.read(4096)
    if text == b"broken":
        raise HeaderError("broken")
    return os.path.join(os.path.dirname(path), text[2:].decode()) if text[:2] == b"B:" else None


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name, text in {"base": "", "one": "B:base", "two": "B:./base", "other": "B:gone", "junk": "broken"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def dependents(directory: Path, *bases: str) -> list[list[str]]:
    found = find_dependents([str(directory / base) for base in bases], [str(directory)], read_backing)
    return [[os.path.relpath(path, directory) for path in found[str(directory / base)]] for base in bases]


def test_overlays_are_found_and_others_are_not(images: Path) -> None:
    assert dependents(images, "base", "one") == [["one", "two"], []]


def test_a_base_is_known_through_links(images: Path) -> None:
    (images / "soft").symlink_to("base")
    os.link(images / "base", images / "hard")
    (images / "three").write_text("B:soft", encoding="utf-8")
    (images / "four").write_text("B:hard", encoding="utf-8")
    everyone = ["four", "one", "three", "two"]
    assert dependents(images, "base", "soft", "hard") == [everyone, everyone, everyone]


def test_our_own_unfinished_files_do_not_count(images: Path) -> None:
    (images / ".platter-tmp.0123").write_text("B:base", encoding="utf-8")
    assert dependents(images, "base") == [["one", "two"]]


def test_directories_and_special_files_are_not_opened(images: Path) -> None:
    os.mkfifo(images / "fifo")
    (images / "sub").mkdir()
    (images / "sub" / "deeper").write_text("B:../base", encoding="utf-8")
    assert dependents(images, "base") == [["one", "two"]]
    assert find_dependents([str(images / "base")], [str(images / "sub")], read_backing) == {
        str(images / "base"): [str(images / "sub" / "deeper")]
    }


def test_an_image_that_names_itself_has_no_dependent(images: Path) -> None:
    (images / "ring").write_text("B:ring", encoding="utf-8")
    assert dependents(images, "ring") == [[]]


def test_a_base_and_data_file_of_one_image_are_both_seen(images: Path) -> None:
    both = [str(images / "base"), str(images / "one")]
    found = find_dependents(both, [str(images)], lambda path: both if path.endswith("two") else None)
    assert found == {path: [str(images / "two")] for path in both}


def test_missing_bases_are_known_by_their_place_and_missing_directories_have_nothing(images: Path) -> None:
    (images / "soft").symlink_to(images)
    asked = [str(images / "soft" / "gone"), str(images / "never")]
    assert find_dependents(asked, [str(images), str(images / "no")], read_backing) == {
        asked[0]: [str(images / "other")],
        asked[1]: [],
    }
    assert find_dependents([str(images / "base")], [str(images / "no")], read_backing) == {str(images / "base"): []}


def test_a_directory_that_cannot_be_read_is_an_error_not_an_empty_answer(images: Path) -> None:
    (images / "loop").symlink_to("loop")
    with pytest.raises(EngineError, match="cannot be searched"):
        find_dependents([str(images / "base")], [str(images / "loop")], read_backing)


@pytest.mark.parametrize(("missing", "seen"), [("gone.qcow2", True), ("loop.qcow2", False)])
def test_a_file_that_goes_while_the_others_are_read_is_none(images: Path, missing: str, seen: bool) -> None:
    """What is there and cannot be opened may be an overlay, and is an error."""
    (images / "loop.qcow2").symlink_to("loop.qcow2")
    (images / missing).with_suffix(".trigger").touch()

    def read(path: str) -> list[str]:
        if path.endswith(".trigger"):
            FileReader(str(images / missing))
        return []

    if seen:
        assert find_dependents([str(images / "base")], [str(images)], read) == {str(images / "base"): []}
        return
    with pytest.raises(EngineError, match="cannot be opened"):
        find_dependents([str(images / "base")], [str(images)], read)


def test_a_directory_given_twice_counts_once(images: Path) -> None:
    found = find_dependents([str(images / "base")], [str(images), str(images)], read_backing)
    assert found[str(images / "base")] == [str(images / "one"), str(images / "two")]


def test_thousands_of_files_are_cheap(tmp_path: Path) -> None:
    (tmp_path / "base").touch()
    for number in range(2000):
        (tmp_path / f"{number:04}").write_text("B:base", encoding="utf-8")
    start = time.process_time()
    assert [len(found) for found in dependents(tmp_path, "base")] == [2000]
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("relative", "bad_path"),
        ("", "bad_path"),
        ("/\0", "bad_path"),
        ("gone", "directory_missing"),
        ("base", "directory_missing"),
        ("base/x", "directory_missing"),
    ],
)
def test_a_directory_that_is_none_is_refused(images: Path, entry: str, reason: str) -> None:
    named = entry if reason == "bad_path" else str(images / entry)
    (images / "link").symlink_to(images)
    refuse_wrong_directories([str(images), str(images / "link")])
    with pytest.raises(RefusedError, match="overlay_directories") as caught:
        refuse_wrong_directories([str(images), named])
    assert (caught.value.reason, caught.value.facts["evidence"]) == (reason, {"directory": named})
