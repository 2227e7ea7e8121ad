"""What is in the way of going back to an internal snapshot is told while the VM runs: that it runs comes last."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused
from ansible_collections.platter.qemu.tests.lab.live import holds
from ansible_collections.platter.qemu.tests.lab.machine import Machine, machine
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.programs import running

Task = dict[str, Any]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    return create(tmp_path / "images" / "a.qcow2", "qcow2", "64M")


@pytest.fixture
def vm(tmp_path: Path, image: Path) -> Iterator[Machine]:
    with machine(tmp_path / "qmp", image) as found:
        yield found


@pytest.fixture
def task(vm: Machine, image: Path) -> Task:
    """For what it is asked of: the VM had a snapshot taken, and has written since."""
    told = {"image": str(image), "format": "qcow2", "qmp_socket": str(vm.socket)}
    call("image_snapshot", **told, name="s1")
    vm.write(1, 0)
    return told


def back(task: Task, **more: Any) -> Task:
    return {**task, "name": "s1", "state": "reverted", **more}


def test_only_that_it_runs_is_in_the_way(vm: Machine, task: Task) -> None:
    told = refused("guest_running", **back(task))
    assert told["evidence"] == {"qmp_socket": task["qmp_socket"]} and vm.shows(1, 0)
    vm.end()
    four_beats(**back(task))
    holds(task["image"], (0, 0))


def test_bitmaps_that_only_qemu_knows_of_yet(vm: Machine, task: Task) -> None:
    call("image_snapshot", **task, bitmaps=[{"name": "daily"}])
    refused("would_lose_bitmaps", **back(task))
    call("image_snapshot", **task, bitmaps=[{"name": "daily", "state": "absent"}])
    refused("guest_running", **back(task))


def test_the_name_for_what_is_there_now(vm: Machine, task: Task) -> None:
    call("image_snapshot", **task, name="kept")
    vm.write(2, 0)
    refused("snapshot_exists", **back(task, save_as="kept"))
    refused("guest_running", **back(task, save_as="other"))
    refused("guest_running", **back(task, save=False))


def test_an_overlay_on_the_image(task: Task) -> None:
    image = Path(task["image"])
    create(image.with_name("on.qcow2"), "qcow2", "64M", "", "-b", str(image), "-F", "qcow2", "-u")
    refused("has_overlays", **back(task))


READER = "import sys; file = open(sys.argv[1], 'rb'); print('open', flush=True); sys.stdin.read()"


@pytest.fixture
def reader(image: Path) -> Iterator[int]:
    """A program, not behind the socket, that only reads the image; its pid."""
    with running(sys.executable, "-c", READER, image) as process:
        assert process.stdout and process.stdout.readline() == b"open\n"
        yield process.pid


def test_others_that_have_the_image(vm: Machine, task: Task, reader: int) -> None:
    told = refused("image_in_use", **back(task))
    assert [holder["pid"] for holder in told["evidence"]["in_use_by"]] == [reader]
    assert "which is not behind" in told["msg"]


def test_nobody_is_waited_for_in_vain(vm: Machine, task: Task, reader: int) -> None:
    """As its VM runs, nothing could be done when the others have gone."""
    told = refused("image_in_use", **back(task, on_in_use="wait", wait_timeout=3600))
    assert "wait_timeout" not in told["msg"]
