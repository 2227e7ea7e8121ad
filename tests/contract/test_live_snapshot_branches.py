"""Layers beside the chain that a running QEMU has open, by whatever names it knows its files."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused
from ansible_collections.platter.qemu.tests.lab.between import between
from ansible_collections.platter.qemu.tests.lab.guest import qemu_io
from ansible_collections.platter.qemu.tests.lab.live import holds, names, sound
from ansible_collections.platter.qemu.tests.lab.machine import machine
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img
from ansible_collections.platter.qemu.tests.lab.qemu import bare, blockdev, qcow2
from ansible_collections.platter.qemu.tests.lab.snapshots import backing_name

Task = dict[str, Any]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    return tmp_path / "images"


@pytest.fixture
def stopped(images: Path) -> Task:
    """The options of a task about the disk while its VM is stopped."""
    create(images / "a.qcow2", "qcow2", "8M")
    return {"image": str(images / "a.qcow2"), "format": "qcow2", "kind": "external", "switch": "rename"}


@pytest.fixture
def task(stopped: Task, tmp_path: Path) -> Task:
    return {**stopped, "qmp_socket": str(tmp_path / "qmp")}


def done(**task: Any) -> dict[str, Any]:
    result = call("image_snapshot", **task)
    assert result["changed"] and not result.get("failed"), result
    return result


def taken(stopped: Task, *names: str) -> str:
    """Points one after the other; before each, and at the end, another MiB is written to. The disk's file."""
    active = str(stopped["image"])
    for number, name in enumerate((*names, None)):
        qemu_io(active, "qcow2", f"write -q -P {number + 1} {number}M 64k")
        active = str(done(**stopped, name=name)["snapshot"]["active"]) if name else active
    return active


def files_of(result: dict[str, Any]) -> dict[str, str]:
    return {point["name"]: point["path"] for point in result["snapshot"]["snapshots"]}


# --- what QEMU does not have open


@pytest.mark.parametrize("state", ["absent", "streamed"])
def test_a_branch_that_the_vm_does_not_use_is_merged_beside_it(
    stopped: Task, task: Task, images: Path, state: str
) -> None:
    taken(stopped, "s1", "s2")
    done(**stopped, name="s1", state="reverted")
    with machine(Path(task["qmp_socket"]), task["image"]) as vm:
        left = files_of(four_beats(**task, name="s2", state=state))
        assert vm.shows(1, 0) and vm.shows(0, 2)
        vm.write(9, 3)
    assert set(left) == {"s1", "s1.undone"}
    holds(left["s1.undone"], (1, 0), (2, 1), (3, 2), (0, 3))
    holds(task["image"], (1, 0), (0, 1), (9, 3))
    assert names(images) == {"a.qcow2", *(Path(path).name for path in left.values())}


def test_what_the_vm_does_not_use_is_put_onto_the_layer_that_stays(stopped: Task, task: Task) -> None:
    """A job of QEMU's re-bases only what QEMU has open."""
    taken(stopped, "s1", "s2")
    done(**stopped, name="s2", state="reverted")
    with machine(Path(task["qmp_socket"]), task["image"]) as vm:
        left = files_of(four_beats(**task, name="s1", state="absent"))
        assert vm.shows(2, 1) and vm.shows(0, 2)
    holds(left["s2.undone"], (1, 0), (2, 1), (3, 2))
    sound(left["s2.undone"])
    holds(task["image"], (1, 0), (2, 1), (0, 2))
    done(**stopped, name="s2.undone", state="reverted", save=False)


def test_a_branch_goes_beside_the_vm(stopped: Task, task: Task) -> None:
    taken(stopped, "s1")
    left = Path(files_of(done(**stopped, name="s1", state="reverted"))["s1.undone"])
    with machine(Path(task["qmp_socket"]), task["image"]):
        four_beats(**task, name="s1.undone", state="absent")
    assert not left.exists()


def test_a_branch_that_somebody_opens_meanwhile_stays(stopped: Task, task: Task, tmp_path: Path) -> None:
    taken(stopped, "s1")
    left = files_of(done(**stopped, name="s1", state="reverted"))["s1.undone"]
    with machine(Path(task["qmp_socket"]), task["image"]), contextlib.ExitStack() as opened:
        other = machine(tmp_path / "other", left)
        item = between(lambda: opened.enter_context(other), **task, name="s1.undone", state="absent")
    assert item.error and item.error.facts["reason"] == "image_in_use", item.error
    holds(left, (1, 0), (2, 1))


@pytest.mark.parametrize(
    ("name", "state", "on"), [("s1", "committed", "a.s1"), ("s1", "streamed", "a"), ("s2", "committed", "a.s2")]
)
def test_a_layer_on_which_a_clone_is_made_meanwhile_stays(
    stopped: Task, task: Task, images: Path, name: str, state: str, on: str
) -> None:
    """The merge itself harms nobody; but then the file that was to go is needed."""
    below = {"switch": "none"}
    active = taken({**stopped, **below}, "s1", "s2")
    below["image"] = active if state == "streamed" else task["image"]
    base, clone = images / f"{on}.qcow2", images / "clone.qcow2"

    def made() -> None:
        qemu_img("create", "-q", "-f", "qcow2", "-u", "-b", base, "-F", "qcow2", clone, "8M")

    with machine(Path(task["qmp_socket"]), active) as vm:
        item = between(made, **{**task, **below}, name=name, state=state)
        if state == "streamed":
            assert not item.error and f"{base} stays" in str(item.warnings), item
        else:
            assert item.error and item.error.facts["reason"] == "has_overlays", item.error
        assert vm.shows(1, 0) and vm.shows(3, 2) and vm.jobs() == []
    assert base.exists()
    holds(clone, (1, 0))
    holds(active, (1, 0), (2, 1), (3, 2))


# --- what QEMU calls its files


@pytest.fixture
def elsewhere(images: Path, tmp_path: Path) -> Iterator[Path]:
    """The same directory by another name, as that of a container's volume."""
    other = tmp_path / "other"
    other.mkdir()
    subprocess.run(["mount", "--bind", images, other], check=True)
    yield other
    subprocess.run(["umount", other], check=True)


def test_files_that_qemu_knows_by_other_names(stopped: Task, task: Task, images: Path, elsewhere: Path) -> None:
    """And those that layers name relative to themselves: names stay as they are, whatever is merged."""
    below = {"switch": "none", "relative": True}
    active = taken({**stopped, **below}, "s1", "s2", "s3", "s4")
    with machine(Path(task["qmp_socket"]), elsewhere / Path(active).name) as vm:
        four_beats(**{**task, **below}, name="s3", state="streamed")
        done(**{**task, **below}, name="s1", state="committed")
        done(**{**task, **below}, name="s4", state="committed")
        assert all(vm.shows(number + 1, number) for number in range(5)) and vm.jobs() == []
    assert names(images) == {"a.qcow2", "a.s3.qcow2"}
    assert backing_name(images / "a.s3.qcow2") == "a.qcow2"
    holds(images / "a.s3.qcow2", *((number + 1, number) for number in range(5)))


def test_a_chain_that_is_not_that_of_the_headers(stopped: Task, task: Task, images: Path, tmp_path: Path) -> None:
    """The VM was given another backing file than the disk names, so that one of the layers is none of its."""
    active = taken({**stopped, "switch": "none"}, "s1", "s2")
    given = {**task, "switch": "none"}
    with machine(tmp_path / "qmp", other_chain(active, images / "a.qcow2")):
        for name, state in (("s2", "committed"), ("s1", "committed"), ("s1", "absent")):
            refused("chain_differs", **given, name=name, state=state)
    create(images / "b.qcow2", "qcow2", "8M")
    with machine(tmp_path / "qmp", other_chain(active, images / "b.qcow2")):
        refused("chain_differs", **given, name="s3")


def test_a_disk_that_no_device_uses(stopped: Task, task: Task, images: Path, tmp_path: Path) -> None:
    """As after it was unplugged: QEMU has its nodes all the same, and merges them. Of its own it leaves none."""
    below = {"switch": "none"}
    active = taken({**stopped, **below}, "s1", "s2", "s3")
    with bare(tmp_path / "qmp", *qcow2("n0", active)):
        done(**{**task, **below}, name="s1", state="committed")
        refused("disk_unused", **{**task, **below}, name="s3", state="committed")
    holds(active, *((number + 1, number) for number in range(4)))


def other_chain(active: str, below: Path) -> list[str]:
    """The option for a disk that is put onto another file than its header says."""
    file = {"driver": "file", "filename": str(below)}
    return qcow2("n0", active, backing={"driver": "qcow2", "file": file, "backing": None})


def test_a_raw_base_without_a_node_for_its_format(images: Path, tmp_path: Path) -> None:
    create(images / "base.raw", "raw", "8M")
    create(images / "a.qcow2", "qcow2", "", "", "-b", images / "base.raw", "-F", "raw")
    task = {"image": str(images / "a.qcow2"), "format": "qcow2", "kind": "external", "switch": "none"}
    given = {**task, "qmp_socket": str(tmp_path / "qmp")}
    base = blockdev(driver="file", node_name="base", filename=str(images / "base.raw"))
    with machine(tmp_path / "qmp", [*base, *qcow2("n0", images / "a.qcow2", backing="base")]) as vm:
        vm.write(1, 0)
        done(**given, name="s1")
        refused("chain_differs", **{**given, "image": str(images / "a.s1.qcow2")}, name="s1", state="streamed")
        four_beats(**given, name="s1", state="committed")
        assert vm.shows(1, 0)


def test_a_layer_with_two_names_is_not_left(stopped: Task, task: Task, images: Path) -> None:
    """It would lose one of them only, and could be started from the other."""
    below = {"switch": "none"}
    active = Path(taken({**stopped, **below}, "s1"))
    (images / "second.qcow2").hardlink_to(active)
    with machine(Path(task["qmp_socket"]), active):
        told = refused("hardlinked", **{**task, **below}, name="s1", state="committed")
    assert told["evidence"] == {"path": str(active), "links": 2}
    refused("hardlinked", **{**stopped, **below}, name="s1", state="committed")
    (images / "second.qcow2").unlink()
    done(**{**stopped, **below}, name="s1", state="committed")
