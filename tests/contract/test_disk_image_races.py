"""What happens meanwhile: the world changes, or qemu-img does something else, while the module is at work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._tools.build_directory import BuildDirectory
from ansible_collections.platter.qemu.tests.lab.beats import digest, settled
from ansible_collections.platter.qemu.tests.lab.guest import facts, scribble, shows
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    path = create(tmp_path / "images" / "image", "qcow2", "4M")
    scribble(path, "qcow2")
    return path


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def test_what_appears_at_the_name_meanwhile_is_not_overwritten(tmp_path: Path, instead: Any) -> None:
    (tmp_path / "images").mkdir()
    path = tmp_path / "images" / "new"
    instead(f'"$real" "$@" && echo mine > {path}')
    result = call("disk_image", path=str(path), format="qcow2", size="4M")
    assert (result["failed"], result["reason"], result["changed"]) == (True, "changed_meanwhile", False)
    assert path.read_text() == "mine\n"
    assert names(path.parent) == ["new"]


def test_an_image_that_is_replaced_meanwhile_is_not_overwritten(image: Path, instead: Any) -> None:
    instead(f'[ "$1" = convert ] && {{ cp {image} {image}.2; mv {image}.2 {image}; }}\nexec "$real" "$@"')
    before = digest(image)
    options = {"cluster_size": "32K"}
    result = call("disk_image", path=str(image), format="qcow2", options=options, allow_rewrite=True)
    assert (result["failed"], result["changed"]) == (True, False)
    assert result["reason"] == "changed_meanwhile"
    assert digest(image) == before
    assert names(image.parent) == ["image"]


def test_a_source_that_is_written_to_meanwhile_is_noticed(image: Path, tmp_path: Path, instead: Any) -> None:
    (tmp_path / "out").mkdir()
    instead(f'"$real" "$@"; rc=$?; [ "$1" = convert ] && touch {image}; exit $rc')
    source = {"path": str(image), "format": "qcow2", "trusted": True}
    result = call("disk_image", path=str(tmp_path / "out" / "new"), format="vmdk", source=source)
    assert (result["failed"], result["changed"], result["reason"]) == (True, False, "source_changed")
    assert result["evidence"]["before"]["mtime_ns"] < result["evidence"]["now"]["mtime_ns"]
    assert names(tmp_path / "out") == []


def test_a_base_of_the_source_that_is_written_to_meanwhile_is_noticed(
    image: Path, tmp_path: Path, instead: Any
) -> None:
    (tmp_path / "out").mkdir()
    overlay = create(tmp_path / "overlay", "qcow2", "", "", "-b", image, "-F", "qcow2")
    instead(f'"$real" "$@"; rc=$?; [ "$1" = convert ] && touch {image}; exit $rc')
    source = {"path": str(overlay), "format": "qcow2", "trusted": True}
    result = call("disk_image", path=str(tmp_path / "out" / "new"), format="vmdk", source=source)
    assert (result["failed"], result["changed"], result["reason"]) == (True, False, "source_changed")
    assert str(image) in result["msg"] and names(tmp_path / "out") == []


def test_a_copy_that_is_not_equal_is_thrown_away(image: Path, instead: Any) -> None:
    instead('[ "$1" = compare ] && exit 1\nexec "$real" "$@"')
    before = digest(image)
    result = call("disk_image", path=str(image), format="vmdk", current_format="qcow2", allow_rewrite=True)
    assert (result["failed"], result["changed"]) == (True, False)
    assert "is not equal to it" in result["msg"]
    assert digest(image) == before
    assert names(image.parent) == ["image"]


def test_a_program_that_does_nothing_is_noticed(image: Path, instead: Any) -> None:
    instead('[ "$1" = resize ] && exit 0\nexec "$real" "$@"')
    result = call("disk_image", path=str(image), format="qcow2", size="8M")
    assert (result["failed"], result["reason"]) == (True, "not_as_planned")
    assert "8388608" in result["msg"] and "4194304" in result["msg"]


@pytest.mark.parametrize("verb", ["create", "convert"])
def test_a_program_that_fails_leaves_nothing(image: Path, instead: Any, verb: str) -> None:
    instead(f'[ "$1" = {verb} ] && {{ echo "qemu-img: no such luck" >&2; exit 1; }}\nexec "$real" "$@"')
    source = {"source": {"path": str(image), "format": "qcow2"}} if verb == "convert" else {"size": "4M"}
    result = call("disk_image", path=str(image.parent / "new"), format="vmdk", **source)
    assert (result["failed"], result["changed"]) == (True, False)
    assert "no such luck" in result["msg"]
    assert names(image.parent) == ["image"]


def test_a_failure_in_the_middle_says_what_was_done(image: Path, instead: Any) -> None:
    instead('[ "$1" = resize ] && { echo "qemu-img: no such luck" >&2; exit 1; }\nexec "$real" "$@"')
    given = {"path": str(image), "format": "qcow2", "options": {"lazy_refcounts": True}, "size": "8M"}
    result = call("disk_image", **given)
    assert (result["failed"], result["changed"]) == (True, True)
    assert [action.split()[0] for action in result["actions"]] == ["Amend"]
    assert result["failed_action"].startswith("Grow ")
    assert "State now: " in result["msg"] and "no such luck" in result["msg"]
    assert facts(image, "qcow2")["format-specific"]["data"]["lazy-refcounts"] is True
    shows(image, "qcow2")


def test_the_next_run_ends_what_was_begun(image: Path, tmp_path: Path, instead: Any) -> None:
    given = {"path": str(image), "format": "qcow2", "options": {"lazy_refcounts": True}, "size": "8M"}
    instead('[ "$1" = resize ] && exit 1\nexec "$real" "$@"')
    assert call("disk_image", **given)["failed"]
    (tmp_path / "bin" / "qemu-img").unlink()
    result = call("disk_image", **given)
    assert [action.split()[0] for action in result["actions"]] == ["Grow"]
    settled(**given)


def test_one_failure_stops_a_list_and_the_rest_is_reported(image: Path, instead: Any) -> None:
    instead('[ "$1" = resize ] && exit 1\nexec "$real" "$@"')
    overlay = image.parent / "overlay"
    images: list[dict[str, Any]] = [
        {"path": str(image.parent / "alone"), "size": "4M"},
        {"path": str(overlay), "backing": {"path": str(image.parent / "alone"), "format": "qcow2"}},
        {"path": str(image), "size": "8M"},
    ]
    result = call("disk_image", format="qcow2", workers=1, images=images)
    assert result["failed"]
    assert result["images"][2]["failed"] and not result["images"][2]["changed"]
    assert result["images"][1]["changed"] == overlay.exists()
    assert result["images"][0]["changed"] == (image.parent / "alone").exists()


def test_what_a_killed_run_left_is_removed_by_the_next(image: Path) -> None:
    prepared("disk_image", path=str(image.parent / "new"), format="qcow2", size="4M")
    (image.parent / "new").unlink()
    left = _leftover(image.parent / "new")
    result = call("disk_image", path=str(image.parent / "new"), format="qcow2", size="4M")
    assert result["removed_leftovers"] == [str(left)]
    assert names(image.parent) == ["image", "new"]


def _leftover(path: Path) -> Path:
    build = Path(BuildDirectory(str(path)).directory)
    build.mkdir(0o700)
    (build / path.name).write_bytes(b"half")
    return build
