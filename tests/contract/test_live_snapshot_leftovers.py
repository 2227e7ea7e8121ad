"""What earlier runs, and others, have left in a running QEMU or beside it: jobs, and layers that were being left."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._snapshot import (
    block_graph,
    layer_records,
    live_edit,
    live_merge,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools import records
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused
from ansible_collections.platter.qemu.tests.lab.between import between
from ansible_collections.platter.qemu.tests.lab.guest import qemu_io
from ansible_collections.platter.qemu.tests.lab.live import holds, names
from ansible_collections.platter.qemu.tests.lab.loops import mounted
from ansible_collections.platter.qemu.tests.lab.machine import Machine, machine
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img
from ansible_collections.platter.qemu.tests.lab.programs import wait_until

Task = dict[str, Any]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    create(tmp_path / "images" / "a.qcow2", "qcow2", "64M")
    return tmp_path / "images"


@pytest.fixture
def task(images: Path, tmp_path: Path) -> Task:
    kind = {"format": "qcow2", "kind": "external", "switch": "none"}
    return {"image": str(images / "a.qcow2"), "qmp_socket": str(tmp_path / "qmp"), **kind}


@pytest.fixture
def vm(task: Task) -> Iterator[Machine]:
    with machine(Path(task["qmp_socket"]), task["image"]) as found:
        yield found


def taken(vm: Machine, task: Task, *names: str) -> None:
    """Points one after the other; before each, and at the end, another MiB is written to."""
    for number, name in enumerate(names):
        vm.write(number + 1, number)
        result = call("image_snapshot", **task, name=name)
        assert result["changed"] and not result.get("failed"), result
    vm.write(len(names) + 1, len(names))


def statuses(vm: Machine) -> list[str]:
    return [each["status"] for each in vm.qmp("query-jobs")]


def disk(vm: Machine) -> str:
    return str(vm.qmp("query-block")[0]["inserted"]["node-name"])


# --- layers that were being left


def left_while_leaving(task: Task, images: Path) -> Path:
    """As a run that was killed while its VM left the active layer, and the VM with it. What is left of the layer."""
    base, overlay = task["image"], images / "a.s1.qcow2"
    left = Path(f"{overlay}.leaving~")
    layer_records.begin_merge(base, str(left))
    overlay.rename(left)
    return left


def test_a_layer_that_another_vm_was_leaving(vm: Machine, task: Task, images: Path) -> None:
    """The VM of now was started from the file below: what the layer holds is nowhere else."""
    taken(vm, task, "s1")
    vm.end()
    left = left_while_leaving(task, images)
    with machine(Path(task["qmp_socket"]), task["image"]):
        for more in ({"name": "s1", "state": "committed"}, {"name": "s2"}):
            told = refused("merge_unfinished", **task, **more)
            assert told["evidence"] == {"overlay": str(left), "base": task["image"]}
    holds(left, (1, 0), (2, 1))


def linked(images: Path, target: str) -> str:
    """A symbolic link that the VM has its disk by."""
    (images / "link").symlink_to(target)
    return str(images / "link")


@pytest.mark.parametrize("where", ["", "a.qcow2", "a.s1.qcow2"])
def test_a_layer_that_was_left_goes_before_another_is_put_on(vm: Machine, task: Task, images: Path, where: str) -> None:
    """C(where): the link leads when the run is killed. The VM has the layer open by a name that was given to that."""
    taken(vm, task, "s1")
    vm.end()
    left = left_while_leaving(task, images)
    layer_records.note_merged(task["image"])
    qemu_io(left, "qcow2", "write -q 8M 64k")  # as its QEMU, which writes its tables when it closes it
    if where:
        task = {**task, "image": linked(images, where), "switch": "symlink"}
    with machine(Path(task["qmp_socket"]), images / "a.qcow2") as again:
        again.qmp(
            "blockdev-add",
            driver="qcow2",
            file={"driver": "file", "filename": str(left)},
            node_name="left",
            backing=None,
        )
        actions = four_beats(**task, name="s2")["actions"]
        assert [action.split()[0] for action in actions[:2]] == ["Finish", "Keep"]
        assert again.active().endswith(".s2.qcow2")
        four_beats(**task, name="s2", state="absent")
    assert not left.exists()


def test_the_link_is_led_by_a_task_that_says_nothing_of_links(vm: Machine, task: Task, images: Path) -> None:
    """What it led to goes."""
    taken(vm, task, "s1")
    vm.end()
    left_while_leaving(task, images)
    layer_records.note_merged(task["image"])
    link = linked(images, "a.s1.qcow2")
    with machine(Path(task["qmp_socket"]), task["image"]):
        four_beats(**{**task, "image": link, "switch": "none"}, name="none", state="absent")
    assert Path(link).resolve() == Path(task["image"])


def test_where_there_are_no_attributes_a_layer_that_is_being_left_is_known(task: Task, images: Path) -> None:
    """What is remembered goes by its name, which it loses."""
    with mounted("none", images, "-t", "ramfs"):
        create(images / "a.qcow2", "qcow2", "64M")
        with machine(Path(task["qmp_socket"]), task["image"]) as vm:
            taken(vm, task, "s1")
            overlay, node = images / "a.s1.qcow2", disk(vm)
            layer_records.begin_merge(task["image"], f"{overlay}.leaving~")
            vm.qmp("block-commit", job_id=block_graph.job_id("commit", task["image"]), device=node, auto_dismiss=False)
            wait_until(lambda: statuses(vm) == ["ready"], "all is copied")
            live_merge.leave(str(overlay))
            four_beats(**task, name="s1", state="absent")
            assert (vm.active(), names(images)) == (task["image"], {"a.qcow2", ".a.qcow2.platter.json"})
            assert vm.shows(1, 0) and vm.shows(2, 1)
            four_beats(**task, name="s2")


def test_dates_that_are_not_in_the_order_of_the_chain(vm: Machine, task: Task, images: Path) -> None:
    """The first merge takes the disk to another node than the second was planned with."""
    taken(vm, task, "s1", "s2", "s3")
    for name, age in (("a", 100), ("a.s1", 50), ("a.s2", 5000)):
        path = str(images / f"{name}.qcow2")
        record = records.read_record(path)
        record["snapshot"]["date"] -= age
        records.write_record(path, record)
    four_beats(**task, state="pruned", retention={"keep_last": 1})
    assert len(names(images)) == 2
    assert all(vm.shows(number + 1, number) for number in range(4))


def test_a_layer_that_was_merged_and_whose_base_was_written_to_is_not_merged_again(task: Task, images: Path) -> None:
    """The guest of now has a disk that is neither the one nor the other."""
    active = call("image_snapshot", **{**task, "qmp_socket": None}, name="s1")["snapshot"]["active"]
    layer_records.begin_merge(task["image"], active)
    layer_records.note_merged(task["image"])
    qemu_io(task["image"], "qcow2", "write -q -P 7 0 64k")
    with machine(Path(task["qmp_socket"]), active):
        told = refused("merge_unfinished", **task, name="s1", state="committed")
    assert told["evidence"] == {"overlay": active, "base": task["image"]}
    holds(task["image"], (7, 0))


# --- layers that a VM was not switched to


def announced(task: Task, active: Path, name: str) -> Path:
    """The overlay of a run that was killed when all was ready for QEMU to switch to it."""
    overlay = active.with_name(f"a.{name}.qcow2")
    layer_records.note_point(str(active), name, overlay=str(overlay), settled=False)
    create(overlay, "qcow2", "", "", "-b", active, "-F", "qcow2")
    made = {"made": 1.0, "switch": task["switch"]}
    records.write_record(str(overlay), {"format": "qcow2", "options": {}, "snapshot": made})
    return overlay


def test_an_overlay_that_a_vm_was_not_switched_to_goes_before_another_is_made(
    vm: Machine, task: Task, images: Path
) -> None:
    announced(task, images / "a.qcow2", "s1")
    vm.write(1, 0)
    assert [each.split()[0] for each in four_beats(**task, name="s2")["actions"]] == ["Remove", "Keep"]
    vm.write(2, 1)
    vm.end()
    result = four_beats(**{**task, "qmp_socket": None}, name="s3")
    assert [each["name"] for each in result["snapshot"]["snapshots"]] == ["s2", "s3"]
    assert names(images) == {"a.qcow2", "a.s2.qcow2", "a.s3.qcow2"}
    holds(result["snapshot"]["active"], (1, 0), (2, 1))


def test_nor_does_one_keep_the_layers_below_from_going(vm: Machine, task: Task, images: Path) -> None:
    taken(vm, task, "s1")
    announced(task, images / "a.s1.qcow2", "s2")
    assert [each.split()[0] for each in four_beats(**task, name="s1", state="absent")["actions"]] == ["Remove", "Merge"]
    assert names(images) == {"a.qcow2"} and vm.shows(1, 0) and vm.shows(2, 1)


@pytest.mark.parametrize("name", ["s1", "s2"])
def test_a_link_to_one_leads_to_the_disk_again(vm: Machine, task: Task, images: Path, name: str) -> None:
    link = images / "link"
    task.update(image=str(link), switch="symlink")
    link.symlink_to(announced(task, images / "a.qcow2", "s1"))
    result = four_beats(**task, name=name)
    assert link.resolve() == Path(vm.active()) == Path(result["snapshot"]["active"])
    assert len(result["snapshot"]["layers"]) == 2 and len(names(images)) == 3


@pytest.mark.parametrize("used", ["written to", "built on"])
def test_one_that_somebody_uses_stays(vm: Machine, task: Task, images: Path, used: str) -> None:
    overlay = announced(task, images / "a.qcow2", "s1")
    if used == "written to":
        base = create(images / "b.qcow2", "qcow2", "64M")
        qemu_img("rebase", "-q", "-u", "-f", "qcow2", "-b", base, "-F", "qcow2", overlay)
        qemu_io(overlay, "qcow2", "write -q -P 9 0 64k")
        qemu_img("rebase", "-q", "-u", "-f", "qcow2", "-b", task["image"], "-F", "qcow2", overlay)
    else:
        create(images / "clone.qcow2", "qcow2", "", "", "-b", overlay, "-F", "qcow2")
    before = overlay.read_bytes()
    prepared("image_snapshot", **task, name="s2")
    assert overlay.read_bytes() == before


def test_one_that_somebody_writes_to_after_the_look_stays(vm: Machine, task: Task, images: Path) -> None:
    overlay = announced(task, images / "a.qcow2", "s1")
    item = between(lambda: overlay.write_bytes(overlay.read_bytes() + bytes(512)), **task, name="s2")
    assert item.error and item.error.facts["reason"] == "changed_meanwhile", item.error
    assert overlay.exists() and item.done == 0


# --- jobs


def test_a_commit_that_somebody_cancels_has_not_been_done(vm: Machine, task: Task, images: Path) -> None:
    """A job that was ready ends without an error then, and QEMU goes on with the layer that was to go."""
    taken(vm, task, "s1")
    node, job = disk(vm), block_graph.job_id("commit", task["image"])

    def cancelled() -> None:
        vm.qmp("block-commit", job_id=job, device=node, top_node=node, auto_dismiss=False)
        wait_until(lambda: statuses(vm) == ["ready"], "all is copied")
        vm.qmp("block-job-cancel", device=job)
        wait_until(lambda: statuses(vm) == ["concluded"], "it has ended")

    item = between(cancelled, **task, name="s1", state="committed")
    assert item.error and "ended without its work" in item.error.message, item.error
    assert item.error.facts["changed"], "the file below holds neither then nor now"
    assert (vm.active(), vm.jobs()) == (str(images / "a.s1.qcow2"), [])
    four_beats(**task, name="s1", state="committed")
    assert vm.shows(1, 0) and vm.shows(2, 1)


def test_a_commit_below_the_disk_that_somebody_cancels_is_done_anew(vm: Machine, task: Task, images: Path) -> None:
    taken(vm, task, "s1", "s2")
    node, job = disk(vm), block_graph.job_id("commit", task["image"])
    below = {"top": str(images / "a.s1.qcow2"), "base": task["image"]}

    def cancelled() -> None:
        vm.qmp("block-commit", job_id=job, device=node, auto_finalize=False, auto_dismiss=False, **below)
        wait_until(lambda: statuses(vm) == ["pending"], "all is copied")
        vm.qmp("job-cancel", id=job)

    item = between(cancelled, **task, name="s1", state="committed")
    assert not item.error, item.error
    assert (vm.jobs(), names(images)) == ([], {"a.qcow2", "a.s2.qcow2"})
    assert all(vm.shows(number + 1, number) for number in range(3))


@pytest.fixture
def both(images: Path, tmp_path: Path) -> Iterator[Machine]:
    create(images / "b.qcow2", "qcow2", "64M")
    with machine(tmp_path / "both", images / "a.qcow2", images / "b.qcow2") as found:
        yield found


@pytest.fixture
def memory(images: Path, both: Machine) -> Task:
    """A task about the memory and both disks."""
    disks = [{"image": str(images / name), "format": "qcow2"} for name in ("a.qcow2", "b.qcow2")]
    return {"memory": True, "qmp_socket": str(both.socket), "snapshots": disks}


def test_a_memory_job_that_a_killed_run_has_left(both: Machine, memory: Task) -> None:
    job = live_edit.node_name("snapshot-save", "n0", "n1")
    both.qmp("snapshot-save", job_id=job, tag="earlier", vmstate="n0", devices=["n0", "n1"])
    wait_until(lambda: statuses(both) == ["concluded"], "it has ended")
    four_beats(**memory, name="warm")
    assert both.jobs() == []


def test_the_present_is_kept_by_one_name_in_all_disks(both: Machine, memory: Task) -> None:
    """Though in one of them the usual name is taken."""
    four_beats(**memory, name="warm")
    one = {**memory["snapshots"][1], "qmp_socket": memory["qmp_socket"], "kind": "internal"}
    four_beats(**one, name="warm.undone")
    both.write(3, 0)
    result = call("image_snapshot", **memory, name="warm", state="reverted")
    assert result["changed"] and not result.get("failed"), result
    found = [{point["name"] for point in each["snapshot"]["snapshots"]} for each in result["snapshots"]]
    assert found == [{"warm", "warm.undone-2"}, {"warm", "warm.undone", "warm.undone-2"}]
    told = call("image_snapshot", **memory, name="warm", state="reverted", save_as="warm.undone")
    assert (told["failed"], told["changed"], told["reason"]) == (True, False, "snapshot_exists"), told


# --- a guest that is to be quiet


@pytest.mark.parametrize("turn", [1, -1])
def test_a_guest_is_quiet_for_all_disks_when_one_needs_it(
    both: Machine, memory: Task, images: Path, tmp_path: Path, turn: int
) -> None:
    quiet = {"quiesce": "required", "agent_socket": str(tmp_path / "nobody")}
    disks = [memory["snapshots"][0], {**memory["snapshots"][1], **quiet}][::turn]
    before = names(images)
    told = call("image_snapshot", name="s1", kind="external", qmp_socket=memory["qmp_socket"], snapshots=disks)
    assert (told["failed"], told["changed"], told["reason"]) == (True, False, "agent_unreachable"), told
    assert names(images) == before
