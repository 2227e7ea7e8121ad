"""Snapshots of images that a running QEMU has open: every state, in both ways in which disks are given to it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._snapshot import block_graph
from ansible_collections.platter.qemu.plugins.module_utils._tools import records
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.live import holds, names, sound
from ansible_collections.platter.qemu.tests.lab.machine import Machine, machine
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create, info, qemu_img
from ansible_collections.platter.qemu.tests.lab.programs import wait_until
from ansible_collections.platter.qemu.tests.lab.qemu import blockdev, qcow2

Task = dict[str, Any]


@pytest.fixture(params=[False, True], ids=["blockdev", "drive"])
def legacy(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    directory = tmp_path / "images"
    directory.mkdir()
    for name in ("a.qcow2", "b.qcow2"):
        create(directory / name, "qcow2", "64M")
    return directory


@pytest.fixture
def vm(tmp_path: Path, images: Path, legacy: bool) -> Iterator[Machine]:
    with machine(tmp_path / "qmp", images / "a.qcow2", images / "b.qcow2", legacy=legacy) as found:
        yield found


@pytest.fixture
def linked(tmp_path: Path, images: Path, legacy: bool) -> Iterator[Machine]:
    """The VM was started with the file that a symbolic link leads to."""
    (images / "a.qcow2").rename(images / "a.v1.qcow2")
    (images / "a.qcow2").symlink_to("a.v1.qcow2")
    with machine(tmp_path / "qmp", images / "a.v1.qcow2", legacy=legacy) as found:
        yield found


@pytest.fixture
def task(tmp_path: Path, images: Path) -> Task:
    return {"image": str(images / "a.qcow2"), "format": "qcow2", "qmp_socket": str(tmp_path / "qmp")}


def external(task: Task, **more: Any) -> Task:
    return {**task, "kind": "external", **more}


# --- internal


def test_an_internal_snapshot_of_a_running_vm_holds_what_was_there(vm: Machine, task: Task) -> None:
    vm.write(1, 0)
    four_beats(**task, name="s1")
    vm.write(2, 0)
    four_beats(**task, name="s2")
    assert vm.shows(2, 0)
    four_beats(**task, name="s2", state="absent")
    vm.end()
    sound(task["image"])
    holds(task["image"], (2, 0))
    four_beats(**task, name="s1", state="reverted", save=False)
    holds(task["image"], (1, 0))


def filtered(image: Path) -> list[str]:
    """A disk with limits, that copies what is read, as C(qemu_drive) gives it to QEMU."""
    limits = ["-object", "throttle-group,id=limits,x-iops-total=100000"]
    reader = blockdev(driver="copy-on-read", node_name="reader", file="image")
    top = blockdev(driver="throttle", node_name="n0", throttle_group="limits", file="reader")
    return [*limits, *qcow2("image", image), *reader, *top]


def test_a_disk_with_limits_has_internal_snapshots_too(tmp_path: Path, images: Path, task: Task) -> None:
    with machine(tmp_path / "qmp", filtered(images / "a.qcow2")) as vm:
        vm.write(1, 0)
        four_beats(**task, name="s1")
        vm.write(2, 0)
        four_beats(**task, name="s2")
        four_beats(**task, name="s2", state="absent")
        prepared("image_snapshot", **task, name="warm", memory=True)
        vm.end()
    assert [each["name"] for each in info(Path(task["image"]), "qcow2")["snapshots"]] == ["s1", "warm"]
    four_beats(**task, name="s1", state="reverted", save=False)
    holds(task["image"], (1, 0))


def test_what_is_asked_of_a_running_vm_is_so_for_the_stopped_one(vm: Machine, task: Task) -> None:
    four_beats(**task, name="s1")
    four_beats(**task, bitmaps=[{"name": "daily"}])
    vm.end()
    settled(**task, name="s1")
    settled(**task, bitmaps=[{"name": "daily"}])


def test_a_running_vm_is_not_reverted_under_its_memory(vm: Machine, task: Task) -> None:
    four_beats(**task, name="s1")
    told = refused("guest_running", **task, name="s1", state="reverted")
    assert "set memory to true" not in told["msg"], "it was not taken so"
    refused("disks_missing", **task, name="s1", state="reverted", memory=True)
    four_beats(**both(task, name="s2"))
    refused("guest_running", **both(task, name="s2", state="reverted", memory=True))


def both(task: Task, **more: Any) -> Task:
    """Both disks in the place of the one."""
    directory = Path(task["image"]).parent
    disks = [{"image": str(directory / name), "format": "qcow2"} for name in ("a.qcow2", "b.qcow2")]
    return {"qmp_socket": task["qmp_socket"], "snapshots": disks, **more}


# --- external


def test_layers_come_and_go_under_a_running_vm(vm: Machine, task: Task, images: Path) -> None:
    for number in (1, 2, 3, 4):
        vm.write(number, number)
        four_beats(**external(task), name=f"s{number}")
    vm.write(5, 5)
    four_beats(**external(task), name="s2", state="committed")
    assert vm.active() == str(images / "a.s4.qcow2")
    four_beats(**external({**task, "image": str(images / "a.s4.qcow2")}), name="s3", state="streamed")
    four_beats(**external(task), name="s4", state="absent")
    vm.write(6, 6)
    assert all(vm.shows(number, number) for number in (1, 2, 3, 4, 5, 6))
    active, left = vm.active(), names(images)
    vm.end()
    assert left == {"a.qcow2", "b.qcow2", Path(active).name}
    sound(active)
    holds(active, *((number, number) for number in (1, 2, 3, 4, 5, 6)))
    holds(task["image"], (1, 1), (0, 2))


def test_a_point_under_a_running_vm_holds_what_was_there(vm: Machine, task: Task, images: Path) -> None:
    vm.write(1, 0)
    result = four_beats(**external(task), name="s1")
    vm.write(2, 0)
    assert result["snapshot"]["active"] == vm.active() == str(images / "a.s1.qcow2")
    vm.end()
    holds(images / "a.qcow2", (1, 0))
    holds(images / "a.s1.qcow2", (2, 0))
    assert info(images / "a.s1.qcow2", "qcow2")["backing-filename-format"] == "qcow2"


def test_the_active_layer_is_merged_down_under_a_running_vm(vm: Machine, task: Task, images: Path) -> None:
    four_beats(**external(task), name="s1")
    vm.write(1, 0)
    four_beats(**external(task), name="s1", state="committed")
    vm.write(2, 1)
    assert vm.active() == str(images / "a.qcow2")
    assert (vm.jobs(), names(images)) == ([], {"a.qcow2", "b.qcow2"})
    vm.end()
    sound(task["image"])
    holds(task["image"], (1, 0), (2, 1))


def test_how_much_is_merged_of_what_a_vm_has_not_flushed(vm: Machine, task: Task) -> None:
    """The tables that say so are in QEMU's memory only."""
    four_beats(**external(task), name="s1")
    vm.write(1, 0, length="8M", flushed=False)
    four_beats(**external(task), name="s2")
    vm.write(2, 8, length="8M", flushed=False)
    told = four_beats(**external(task), name="s2", state="committed")["actions"][0]
    most = re.search(r"commit at most ([\d.]+) MiB of .*a\.s2\.qcow2 into", told)
    assert most and 8 <= float(most.group(1)) < 10, told
    told = four_beats(**external(task), name="s1", state="committed")["actions"][0]
    assert "commit at most" in told, told
    assert vm.shows(1, 0) and vm.shows(2, 8)


def test_how_much_is_merged_of_what_nobody_writes_to_is_exact(vm: Machine, task: Task) -> None:
    four_beats(**external(task), name="s1")
    vm.write(1, 0, length="8M", flushed=False)
    four_beats(**external(task), name="s2")
    told = four_beats(**external(task), name="s1", state="committed")["actions"][0]
    assert "commit 8 MiB of" in told, told


def test_all_is_streamed_into_the_active_layer(vm: Machine, task: Task, images: Path) -> None:
    vm.write(1, 0)
    four_beats(**external(task), name="s1")
    vm.write(2, 1)
    overlay = str(images / "a.s1.qcow2")
    refused("image_would_go", **external(task), name="s1", state="streamed")
    four_beats(**external({**task, "image": overlay}), name="s1", state="streamed")
    assert vm.active() == overlay
    assert (vm.jobs(), names(images)) == ([], {"a.s1.qcow2", "b.qcow2"})
    vm.end()
    assert "backing-filename" not in info(Path(overlay), "qcow2")
    holds(overlay, (1, 0), (2, 1))


@pytest.mark.parametrize(
    ("name", "state"), [("s2", "streamed"), ("s1", "streamed"), ("s1", "committed"), ("s2", "absent")]
)
def test_what_was_merged_is_on_the_disk_at_once(
    vm: Machine, task: Task, images: Path, tmp_path: Path, name: str, state: str
) -> None:
    """The file from which it came is gone: what QEMU would write later would be lost with the host."""
    vm.write(1, 0)
    for number in (1, 2):
        four_beats(**external(task), name=f"s{number}")
        vm.write(number + 1, number)
    named = "a.qcow2" if state != "streamed" else "a.s2.qcow2"
    four_beats(**external({**task, "image": str(images / named)}), name=name, state=state)
    copied = tmp_path / "copied"
    shutil.copytree(images, copied, ignore=shutil.ignore_patterns("b.qcow2"))
    for path in copied.iterdir():
        below = info(path, "qcow2").get("backing-filename")
        if below:
            qemu_img("rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", copied / Path(below).name, path)
    holds(copied / Path(vm.active()).name, (1, 0), (2, 1), (3, 2))


def test_a_symbolic_link_always_leads_to_the_disk_of_a_running_vm(linked: Machine, task: Task, images: Path) -> None:
    given = external(task, switch="symlink")
    linked.write(1, 0)
    four_beats(**given, name="s1")
    linked.write(2, 1)
    assert Path(linked.active()) == (images / "a.qcow2").resolve() == images / "a.s1.qcow2"
    four_beats(**given, name="s2")
    linked.write(3, 2)
    four_beats(**given, name="s1", state="streamed")
    four_beats(**given, name="s2", state="absent")
    assert Path(linked.active()) == (images / "a.qcow2").resolve()
    linked.end()
    assert names(images) == {"a.qcow2", "b.qcow2", (images / "a.qcow2").resolve().name}
    holds(task["image"], (1, 0), (2, 1), (3, 2))
    four_beats(**given, name="s3")
    settled(**given, name="s3")


def test_a_file_that_qemu_would_open_again_by_a_link_that_has_moved(
    tmp_path: Path, images: Path, task: Task, legacy: bool
) -> None:
    """QEMU 7.2 opens a layer again by its name when it becomes read-only: it would go on with the overlay's file."""
    (images / "a.qcow2").rename(images / "a.v1.qcow2")
    (images / "a.qcow2").symlink_to("a.v1.qcow2")
    with machine(tmp_path / "qmp", images / "a.qcow2", legacy=legacy) as vm:
        vm.write(1, 0)
        refusal = refused("opened_by_link", **external(task, switch="symlink"), name="s1")
        assert set(refusal["snapshot"]) == {"image", "kind"}, "nothing is told that was not looked at"
        assert vm.shows(1, 0)
        (images / "c.qcow2").write_bytes((images / "b.qcow2").read_bytes())
        (images / "a.qcow2").unlink()
        (images / "a.qcow2").symlink_to("c.qcow2")
        refused("name_moved", **external({**task, "image": str(images / "c.qcow2")}), name="s1")
        assert vm.shows(1, 0)


def test_pruning_merges_what_goes_under_a_running_vm(vm: Machine, task: Task, images: Path) -> None:
    for number in (1, 2, 3, 4):
        vm.write(number, number)
        four_beats(**external(task), name=f"nightly-{number}")
    rules = {"state": "pruned", "match": "nightly-*", "retention": {"keep_last": 2}}
    result = four_beats(**external(task), **rules)
    assert [point["name"] for point in result["snapshot"]["snapshots"]] == ["nightly-3", "nightly-4"]
    assert all(vm.shows(number, number) for number in (1, 2, 3, 4))


def test_what_a_running_vm_writes_to_files_of_snapshots_in_merges_is_no_matter(
    vm: Machine, task: Task, images: Path
) -> None:
    """They are not taken for altered by others, and would be told if they were."""
    for number in (1, 2, 3, 4):
        vm.write(number, number)
        four_beats(**external(task), name=f"s{number}")
    four_beats(**external({**task, "image": vm.active()}), name="s2", state="streamed")
    four_beats(**external(task), name="s1", state="committed")
    four_beats(**external(task), name="s5")
    active = vm.active()
    vm.end()
    told = call("image_snapshot", **external({**task, "image": active}), name="s5")["snapshot"]["snapshots"]
    assert [(each["name"], each.get("altered")) for each in told] == [("s3", None), ("s4", None), ("s5", None)]
    assert all("mtime_ns" in records.read_record(each["path"])["snapshot"] for each in told)
    four_beats(**external({**task, "image": active}), name="s3", state="reverted")
    holds(active, (1, 1), (2, 2), (3, 3), (0, 4))


def test_a_name_is_not_moved_under_a_running_vm(vm: Machine, task: Task) -> None:
    refused("guest_running", **external(task), name="s1", switch="rename")
    four_beats(**external(task), name="s1")
    vm.write(1, 0)
    told = refused("guest_running", **external(task), name="s1", state="reverted")
    assert "Stop the VM first" in told["msg"] and "memory to true" not in told["msg"], "layers hold no memory"


def test_a_layer_in_another_directory_is_found_again(vm: Machine, task: Task, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    overlay = str(tmp_path / "elsewhere" / "top.qcow2")
    four_beats(**external(task), name="s1", overlay=overlay)
    assert vm.active() == overlay
    four_beats(**external(task), name="s1", state="committed")
    assert vm.active() == task["image"]


def test_a_layer_that_others_have_made_where_nobody_looks(vm: Machine, task: Task, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    overlay = str(tmp_path / "elsewhere" / "top.qcow2")
    node = next(each for each in vm.qmp("query-block") if "d0" in each["qdev"])["inserted"]["node-name"]
    vm.qmp("blockdev-snapshot-sync", node_name=node, snapshot_file=overlay, snapshot_node_name="top", format="qcow2")
    assert refused("active_unknown", **external(task), name="s1")["evidence"] == {"layers": [overlay]}
    four_beats(**external(task), name="s1", overlay_directories=[str(tmp_path / "elsewhere")])
    vm.write(1, 0)
    assert vm.shows(1, 0)


def test_a_stream_that_waits_to_be_dismissed_does_not_end_the_vm(vm: Machine, task: Task, images: Path) -> None:
    """QEMU 7.2 ends with SIGSEGV when it is asked for its nodes then."""
    four_beats(**external(task), name="s1")
    node = next(each for each in vm.qmp("query-block") if "d0" in each["qdev"])["inserted"]["node-name"]
    vm.qmp("block-stream", job_id="foreign", device=node, auto_dismiss=False)
    wait_until(lambda: [each["status"] for each in vm.qmp("query-jobs")] == ["concluded"], "the stream ends")
    told = refused("job_not_dismissed", **external(task), name="s2")
    assert (told["evidence"], vm.process.poll()) == ({"jobs": ["foreign"]}, None)
    vm.qmp("job-dismiss", id="foreign")
    four_beats(**external({**task, "image": str(images / "a.s1.qcow2")}), name="s2")


def test_a_stream_of_a_killed_run_is_ended_before_anything_else(vm: Machine, task: Task, images: Path) -> None:
    vm.write(1, 0)
    for name in ("s1", "s2"):
        four_beats(**external(task), name=name)
    overlay, below = str(images / "a.s2.qcow2"), str(images / "a.s1.qcow2")
    node = next(each for each in vm.qmp("query-block") if "d0" in each["qdev"])["inserted"]["node-name"]
    base = {"base": task["image"]}
    vm.qmp("block-stream", job_id=block_graph.job_id("stream", overlay), device=node, auto_finalize=False, **base)
    wait_until(lambda: [each["status"] for each in vm.qmp("query-jobs")] == ["pending"], "all is copied")
    for more in ({"name": "s3"}, {"name": "s1", "state": "committed"}, {"name": "s2", "state": "absent"}):
        told = refused("merge_unfinished", **external(task), **more)
        assert told["evidence"] == {"path": overlay, "snapshot": "s2"}
    four_beats(**external({**task, "image": overlay}), name="s2", state="streamed")
    assert (vm.jobs(), Path(below).exists(), vm.shows(1, 0)) == ([], False, True)


# --- several disks


def test_all_disks_are_taken_at_one_moment_or_none(vm: Machine, task: Task, images: Path) -> None:
    given = both(task, kind="external", name="s1")
    before = names(images)
    vm.qmp("blockdev-add", driver="null-co", node_name="sink", size=64 << 20)
    node = next(each for each in vm.qmp("query-block") if "d1" in each["qdev"])["inserted"]["node-name"]
    vm.qmp("blockdev-mirror", job_id="busy", device=node, target="sink", sync="full", speed=1)
    failed = call("image_snapshot", **given)
    assert failed["failed"] and not failed["changed"], failed
    assert "Nothing was done before" in failed["msg"]
    assert (names(images), vm.active(0)) == (before, str(images / "a.qcow2"))
    vm.qmp("block-job-cancel", device="busy", force=True)
    wait_until(lambda: vm.jobs() == [], "it has ended")
    four_beats(**given)
    assert (vm.active(0), vm.active(1)) == (str(images / "a.s1.qcow2"), str(images / "b.s1.qcow2"))


def test_a_vm_is_looked_at_once_for_all_its_disks(vm: Machine, task: Task) -> None:
    one = looks(call("image_snapshot", **external(task), name="s1"))
    more = looks(call("image_snapshot", **both(task, kind="external", name="s2")))
    assert one == more == 2, "before and after"
    assert looks(call("image_snapshot", **both(task, kind="external", name="s2"))) == 1


def looks(result: dict[str, Any]) -> int:
    """How often QEMU was asked for its nodes."""
    assert not result.get("failed"), result["msg"]
    return [command[2] for command in result["commands"] if command[0] == "qmp"].count("query-named-block-nodes")


def test_disks_of_stopped_and_running_vms_in_one_task(vm: Machine, task: Task, images: Path) -> None:
    create(images / "c.qcow2", "qcow2", "64M")
    several = {"snapshots": [{"image": str(images / name), "format": "qcow2"} for name in ("a.qcow2", "c.qcow2")]}
    four_beats(qmp_socket=task["qmp_socket"], name="s1", **several)
    assert [each["name"] for each in info(images / "c.qcow2", "qcow2")["snapshots"]] == ["s1"]


# --- memory


def test_a_vm_is_sent_back_with_its_memory(vm: Machine, task: Task) -> None:
    missing = refused("disks_missing", **task, name="s1", memory=True)
    given = both(task, name="s1", memory=True)
    assert missing["evidence"]["missing"] == [given["snapshots"][1]["image"]]
    vm.write(1, 0), vm.write(1, 0, disk=1)
    told = [entry["snapshot"]["snapshots"][0]["vm_state_size"] for entry in four_beats(**given)["snapshots"]]
    assert told == [memory_in(entry["image"]) for entry in given["snapshots"]] and told[0] > told[1] == 0
    vm.write(2, 0), vm.write(2, 0, disk=1)
    result = call("image_snapshot", **given, state="reverted")
    assert result["changed"] and not result.get("failed"), result
    assert vm.shows(1, 0) and vm.shows(1, 0, disk=1)
    undone = call("image_snapshot", **{**given, "name": "s1.undone"}, state="reverted", save=False)
    assert undone["changed"] and vm.shows(2, 0) and vm.shows(2, 0, disk=1)
    assert vm.jobs() == []


def memory_in(path: str) -> int:
    """Bytes of the VM's memory in the only snapshot of an image."""
    (only,) = json.loads(qemu_img("info", "-U", "--output=json", "-f", "qcow2", path))["snapshots"]
    return int(only["vm-state-size"])


# --- bitmaps


def test_bitmaps_of_a_running_vm(vm: Machine, task: Task) -> None:
    four_beats(**task, bitmaps=[{"name": "one", "granularity": "128K"}, {"name": "two", "enabled": False}])
    assert vm.bitmaps() == {"one": True, "two": False}
    four_beats(**task, bitmaps=[{"name": "two", "enabled": True}, {"name": "all", "sources": ["one"]}])
    four_beats(**task, bitmaps=[{"name": "one", "state": "absent"}])
    vm.end()
    found = info(Path(task["image"]), "qcow2")["format-specific"]["data"]["bitmaps"]
    assert {each["name"]: each["granularity"] for each in found} == {"two": 65536, "all": 65536}


def test_bitmaps_are_not_lost_in_a_merge_under_a_running_vm(vm: Machine, task: Task) -> None:
    four_beats(**external(task), name="s1")
    four_beats(**external(task), bitmaps=[{"name": "daily"}])
    refused("would_lose_bitmaps", **external(task), name="s1", state="committed")
    four_beats(**external(task), bitmaps=[{"name": "daily", "state": "absent"}])
    four_beats(**external(task), name="s1", state="committed")


# --- whose VM it is


def test_an_image_that_another_qemu_has_open(vm: Machine, task: Task, tmp_path: Path, images: Path) -> None:
    create(images / "c.qcow2", "qcow2", "64M")
    with machine(tmp_path / "other", images / "c.qcow2") as other:
        told = refused("image_in_use", **{**task, "qmp_socket": str(tmp_path / "other")}, name="s1")
        assert f"process {vm.process.pid} " in told["msg"]
        assert other.process.pid != vm.process.pid
    refused("image_in_use", **{**task, "qmp_socket": str(tmp_path / "none")}, name="s1")


def test_a_socket_that_an_ended_vm_has_left_is_no_vm(vm: Machine, task: Task, tmp_path: Path) -> None:
    vm.process.kill()
    vm.process.wait()
    assert (tmp_path / "qmp").is_socket()
    four_beats(**task, name="s1")


def test_a_vm_of_libvirt_is_left_to_libvirt(tmp_path: Path, images: Path, task: Task) -> None:
    socket = tmp_path / "qmp"
    chardev = ("-chardev", f"socket,id=charmonitor,path={socket},server=on,wait=off")
    monitor = ("-name", "guest=vm1", *chardev, "-mon", "chardev=charmonitor,mode=control")
    with machine(socket, images / "a.qcow2", monitor=monitor):
        refused("managed_by_libvirt", **task, name="s1")


# --- quiet guests


def test_a_guest_without_an_agent(vm: Machine, task: Task, tmp_path: Path, images: Path) -> None:
    before = names(images)
    quiet = external(task, agent_socket=str(tmp_path / "none"))
    failed = call("image_snapshot", **quiet, name="s1", quiesce="required")
    assert failed["failed"] and not failed["changed"] and failed["reason"] == "agent_unreachable", failed
    assert (names(images), vm.active()) == (before, task["image"])
    done = call("image_snapshot", **quiet, name="s1", quiesce="try")
    assert (done["changed"], done["quiesced"]) == (True, False), done
    assert "not frozen" in str(done["warnings"])


def test_the_agent_of_another_vm_is_not_asked(vm: Machine, task: Task, tmp_path: Path, images: Path) -> None:
    create(images / "c.qcow2", "qcow2", "64M")
    agent, other = tmp_path / "agent", tmp_path / "other"
    port = ("-chardev", f"socket,id=ga,path={agent},server=on,wait=off", "-device", "virtio-serial-pci")
    monitor = (*port, "-device", "virtserialport,chardev=ga", "-qmp", f"unix:{other},server=on,wait=off")
    before = names(images)
    with machine(other, images / "c.qcow2", monitor=monitor) as stranger:
        agent.chmod(0o600)
        for quiesce in ("try", "required"):
            told = call("image_snapshot", **external(task), name="s1", quiesce=quiesce, agent_socket=str(agent))
            assert (told["reason"], told["changed"]) == ("agent_of_other_vm", False), told
            evidence = {"agent_pids": [stranger.process.pid], "vm_pids": [vm.process.pid]}
            assert told["evidence"] == evidence
    assert (names(images), vm.active()) == (before, task["image"])
