"""Images that somebody uses, or builds on, are not changed; reading them is always possible."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._tools.locks import ImageLocks
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.guest import scribble, shows
from ansible_collections.platter.qemu.tests.lab.loops import HAVE_LOOPS, attached
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img
from ansible_collections.platter.qemu.tests.lab.programs import exported, running, wait_until

OPEN = "import sys; f = open(sys.argv[1], sys.argv[2]); print(); sys.stdout.flush(); sys.stdin.read()"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    path = create(tmp_path / "images" / "image.qcow2", "qcow2", "4M")
    scribble(path, "qcow2")
    return path


@pytest.fixture
def served(image: Path, tmp_path: Path) -> Iterator[Path]:
    with exported(image, "qcow2", tmp_path / "socket"):
        yield image


def grown(path: object, **more: Any) -> dict[str, Any]:
    return {"path": str(path), "format": "qcow2", "size": "8M", **more}


CHANGES: list[dict[str, Any]] = [
    {"format": "qcow2", "size": "8M"},
    {"format": "qcow2", "options": {"lazy_refcounts": True}},
    {"format": "qcow2", "options": {"cluster_size": "32K"}, "allow_rewrite": True},
    {"format": "vmdk", "current_format": "qcow2", "allow_rewrite": True},
    {"state": "absent"},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_what_qemu_uses_is_not_changed(served: Path, change: dict[str, Any]) -> None:
    result = refused("image_in_use", path=str(served), **change)
    assert result["evidence"]["in_use_by"]


def test_what_qemu_uses_can_be_looked_at(served: Path) -> None:
    settled(path=str(served), format="qcow2", size="4M")


def test_what_qemu_uses_can_be_given_another_mode(served: Path) -> None:
    four_beats(path=str(served), format="qcow2", mode="0640")


@pytest.mark.parametrize("mode", ["rb", "r+b"])
def test_what_any_process_uses_is_not_removed(image: Path, mode: str) -> None:
    with running(sys.executable, "-c", OPEN, image, mode) as process:
        assert process.stdout
        process.stdout.readline()
        result = refused("image_in_use", path=str(image), state="absent")
        assert [holder["pid"] for holder in result["evidence"]["in_use_by"]] == [process.pid]
    four_beats(path=str(image), state="absent")


@pytest.mark.skipif(not HAVE_LOOPS, reason="needs root and loop devices")
@pytest.mark.xdist_group("loops")
def test_what_a_loop_device_shows_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    raw = create(tmp_path / "images" / "disk.raw", "raw", "4M")
    with attached(raw):
        refused("image_in_use", path=str(raw), format="raw", size="8M")
        refused("image_in_use", path=str(raw), state="absent")
    four_beats(path=str(raw), format="raw", size="8M")


def test_an_image_in_use_can_be_left_alone(served: Path) -> None:
    for check in (True, False):
        result = call("disk_image", check=check, **grown(served, on_in_use="skip"))
        assert not result.get("failed")
        assert (result["changed"], result["skipped_reason"]) == (False, "image_in_use")
        assert "is left as it is because it is in use" in str(result["warnings"])
    assert '"virtual-size": 4194304' in qemu_img("info", "-U", "--output=json", "-f", "qcow2", served)


def test_the_others_of_a_list_are_done_when_one_is_in_use(served: Path, tmp_path: Path) -> None:
    images = [{"path": str(served)}, {"path": str(tmp_path / "other")}]
    result = call("disk_image", format="qcow2", size="8M", on_in_use="skip", images=images)
    assert [entry["changed"] for entry in result["images"]] == [False, True]


def test_waiting_ends_when_the_image_is_free(image: Path, tmp_path: Path) -> None:
    with exported(image, "qcow2", tmp_path / "socket") as server:
        timer = threading.Timer(1.0, server.terminate)
        began = time.monotonic()
        timer.start()
        result = call("disk_image", **grown(image, on_in_use="wait", wait_timeout=120))
        took = time.monotonic() - began
        timer.join()
    assert result["changed"], result["msg"]
    assert 1 <= took < 60
    shows(image, "qcow2")


def test_waiting_has_an_end(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept, sleep = [0.0], time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(slept.append(seconds) or seconds))
    began = time.monotonic()
    result = call("disk_image", **grown(served, on_in_use="wait", wait_timeout=2))
    assert (result["failed"], result["reason"], result["changed"]) == (True, "image_in_use", False)
    assert time.monotonic() - began >= 2
    # not by the clock: how long the looks between take is a matter of the machine
    assert sum(slept) < 3, "it is waited once, however often the image is looked at"
    assert "also when wait_timeout (2 s) was over. Nothing was changed. Stop what uses it, raise" in result["msg"]


def test_check_mode_does_not_wait(served: Path) -> None:
    began = time.monotonic()
    result = call("disk_image", check=True, **grown(served, on_in_use="wait", wait_timeout=120))
    assert result["reason"] == "image_in_use" and "was over" not in result["msg"]
    assert time.monotonic() - began < 60


def test_another_run_of_the_collection_is_waited_for(image: Path) -> None:
    with ImageLocks([str(image)], [], 5.0):
        before = image.stat().st_mtime_ns
        result = call("disk_image", **grown(image), lock_timeout=1)
    assert (result["failed"], result["reason"], result["changed"]) == (True, "lock_timeout", False)
    assert image.stat().st_mtime_ns == before
    four_beats(**grown(image))


# --- what others build on


@pytest.fixture
def overlay(image: Path) -> Path:
    path = image.parent / "overlay.qcow2"
    return create(path, "qcow2", "", "", "-b", image, "-F", "qcow2")


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_base_is_not_changed(image: Path, overlay: Path, change: dict[str, Any]) -> None:
    result = refused("has_overlays", path=str(image), **change)
    assert result["evidence"]["overlays"] == [str(overlay)]


def test_a_base_can_be_given_another_mode(image: Path, overlay: Path) -> None:
    four_beats(path=str(image), format="qcow2", mode="0444")


def test_overlays_in_other_directories_are_found_where_the_task_says(image: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    create(away / "overlay", "qcow2", "", "", "-b", image, "-F", "qcow2")
    refused("has_overlays", path=str(image), state="absent", overlay_directories=[str(away)])


def test_overlays_that_name_the_base_relatively_or_by_a_link_are_found(image: Path) -> None:
    (image.parent / "link").symlink_to(image)
    for name in ("image.qcow2", image.parent / "link"):
        overlay = create(image.parent / "overlay", "qcow2", "", "", "-b", name, "-F", "qcow2")
        refused("has_overlays", path=str(image), state="absent")
        overlay.unlink()


def test_a_base_under_an_exported_overlay_is_in_use(image: Path, overlay: Path, tmp_path: Path) -> None:
    with exported(overlay, "qcow2", tmp_path / "s"):
        refused("has_overlays", path=str(image), state="absent")
        overlay.unlink()
        refused("image_in_use", path=str(image), state="absent")


def test_the_base_of_a_new_overlay_must_not_be_written(served: Path) -> None:
    path = str(served.parent / "new.qcow2")
    refused("image_in_use", path=path, format="qcow2", backing={"path": str(served), "format": "qcow2"})


def test_the_holder_is_gone_at_the_end(image: Path) -> None:
    wait_until(lambda: not call("disk_image", check=True, **grown(image)).get("failed"), "nobody has it")
