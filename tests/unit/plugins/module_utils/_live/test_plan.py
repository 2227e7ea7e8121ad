"""Plans for the drives of a running QEMU: nothing is left to do after one, and what cannot be done is told."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._drive import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Drive, DrivesSpec
from ansible_collections.platter.qemu.plugins.module_utils._live import actions, buses, foretell, image, plan, unplug
from ansible_collections.platter.qemu.plugins.module_utils._live.state import (
    Idle,
    LiveController,
    LiveDrive,
    LiveState,
    Medium,
)
from ansible_collections.platter.qemu.tests.lab.drives import SOME, Task, vms

Words = t.List[str]
FILE = {"path": "/i/a", "format": "raw"}
DISK: Task = {"id": "d", "device": "virtio-blk-pci", "image": FILE}
SCSI = LiveController("virtio-scsi-pci", "scsi0")


def _spec(*drives: Task, machine: str = "pc", **more: t.Any) -> DrivesSpec:
    return read_spec.read({"drives": list(drives), **more}, machine)


def _with(*drives: Task, machine: str = "pc", state: t.Optional[LiveState] = None) -> LiveState:
    """A QEMU that was given these drives while it runs."""
    state = state or LiveState(machine, controllers=(SCSI,))
    return predict(state, plan.plan(_spec(*drives, machine=machine), state).steps)


def _steps(state: LiveState, *drives: Task, **how: t.Any) -> Words:
    return [str(each) for each in plan.plan(_spec(*drives, machine=state.machine), state, **how).steps]


@SOME
@given(vms(), vms(), st.booleans())
def test_a_plan_leaves_nothing_to_do(before: t.List[Task], after: t.List[Task], purge: bool) -> None:
    state = LiveState("pc")
    for tasks in (before, after):
        wanted = read_spec.read(tasks, "pc")
        first = plan.plan(wanted, state, purge)
        state = predict(state, first.steps)
        again = plan.plan(wanted, state, purge)
        assert not again.steps
        assert set(again.needs_restart) == set(first.needs_restart)
    listed = {each["id"] for each in after}
    assert not purge or {each.id for each in state.drives} <= listed


@SOME
@given(vms())
def test_what_is_to_go_goes_with_its_objects(tasks: t.List[Task]) -> None:
    wanted = read_spec.read(tasks, "pc")
    state = predict(LiveState("pc"), plan.plan(wanted, LiveState("pc")).steps)
    gone = plan.plan(DrivesSpec(machine="pc"), state, absent=[each.id for each in wanted.drives])
    left = predict(state, gone.steps)
    assert not left.drives and not left.nodes and not [each for each in left.objects if each.kind != "iothread"]


@SOME
@given(vms())
def test_a_plan_does_not_add_what_is_there(tasks: t.List[Task]) -> None:
    wanted = read_spec.read(tasks, "pc")
    told = [(d.kind, d.told.get("id") or d.told.get("node-name")) for d in _told(plan.plan(wanted, LiveState("pc")))]
    assert len(told) == len(set(told))


def _told(found: plan.LivePlan) -> t.Iterator[t.Any]:
    for step in found.steps:
        if isinstance(step, actions.PlugDrive):
            yield from step.definitions()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"device": "nvme", "serial": "x"}, "device"),
        ({"image": {"path": "/i/b", "format": "raw"}}, "image"),
        ({"image": {"path": "/i/a", "format": "qcow2"}}, "image"),
        ({"serial": "new"}, "serial"),
        ({"rerror": "stop"}, ""),  # it is not known that it had none
        ({"device_id": "other"}, "device_id"),
        ({"snapshot": True}, "snapshot"),
        ({"aio": "io_uring"}, "options"),
        ({"discard": "unmap"}, "options"),
        ({"read_only": True}, "read-only"),
        ({"copy_on_read": True}, "copy_on_read"),
    ],
)
def test_what_needs_a_restart(change: Task, what: str) -> None:
    found = plan.plan(_spec(dict(DISK, **change)), _with(DISK))
    assert not found.steps and [each.what for each in found.needs_restart] == [what] * bool(what)
    assert [each.what for each in found.drift] == [what] * bool(what)


def _waiting(wanted: DrivesSpec, state: LiveState) -> t.List[t.Tuple[str, str]]:
    """What needs a restart; nothing is done, and all of it is drift too."""
    found = plan.plan(wanted, state)
    assert not found.steps, found.steps
    assert [each[:2] for each in found.drift] == [each[:2] for each in found.needs_restart]
    return [(each.drive, each.what) for each in found.needs_restart]


def test_what_a_drive_does_not_say_any_more_needs_a_restart_too() -> None:
    said = dict(DISK, serial="S", wwn=None, rerror="stop", queues=2)
    state = _with(dict(said, bootindex=1))
    assert [str(each) for each in plan.plan(_spec(said), state).steps] == [
        "Set the boot order, for the next start of the guest: d -1."
    ]
    assert _waiting(_spec(DISK), _with(said)) == [("d", "serial")]
    (live,) = _with(said).drives
    first = replace(live, first=_spec(said).drives[0].frontend)
    assert _waiting(_spec(DISK), _with(said).with_drive(first)) == [
        ("d", "serial"),
        ("d", "num-queues"),
        ("d", "rerror"),
    ]


def test_what_only_the_command_line_tells_is_compared_with_it() -> None:
    flash = {"id": "f", "device": "pflash", "image": FILE}
    state = _with(DISK)
    medium = foretell.medium(_spec(flash).drives[0])
    live = LiveDrive("f", "pflash", "", medium, first=_spec(dict(flash, index=0)).drives[0].frontend)
    assert _waiting(_spec(DISK, dict(flash, index=1)), state.with_drive(live)) == [("f", "index")]
    lists = [{"iothread-vq-mapping.0.iothread": name} for name in ("t1", "t2")]
    first, second = (_spec(dict(DISK, properties=each)).drives[0].frontend for each in lists)
    (disk,) = state.drives
    assert second and _waiting(
        _spec(dict(DISK, properties=lists[1])), state.with_drive(replace(disk, first=first))
    ) == [("d", "iothread-vq-mapping.0.iothread")]


def test_a_changed_cache_takes_nothing_else_along() -> None:
    (step,) = plan.plan(_spec(dict(DISK, cache="none", read_only=True)), _with(DISK)).steps
    assert isinstance(step, actions.ReopenImage) and step.tree()["read-only"] is False
    (step,) = plan.plan(_spec(dict(DISK, cache="none")), _with(dict(DISK, read_only=True))).steps
    assert isinstance(step, actions.ReopenImage) and step.tree()["read-only"] is True
    other = _spec(dict(DISK, cache="none", discard="unmap"))
    assert _waiting(other, _with(DISK)) == [("d", "cache.direct"), ("d", "options")]


def test_what_is_not_as_it_is_declared_of_controllers_objects_and_shared_nodes() -> None:
    controller = {"device": "virtio-scsi-pci", "id": "c", "bus": "pci.0", "properties": {"num_queues": 2}}
    key = {"qom-type": "secret", "id": "k", "file": "/k"}
    thread = {"qom-type": "iothread", "id": "t", "poll-max-ns": 5}
    lists: Task = {"controllers": [controller], "objects": [key, thread]}
    encrypted = dict(DISK, image={"path": "/i/a", "format": "qcow2"}, encryption={"secret_file": "/s"})
    wanted = _spec(encrypted, **lists)
    state = LiveState("pc", objects=tuple(map(foretell.live_object, wanted.objects)))
    state = predict(state, plan.plan(wanted, state).steps)
    assert not _waiting(wanted, state)
    more = [key, thread, {"qom-type": "iothread", "id": "idle"}]
    assert _waiting(_spec(encrypted, controllers=[controller], objects=more), state) == [("idle", "object")]
    for name, change, what in (
        ("controllers", dict(controller, device="lsi53c895a", properties={}), ("c", "controller")),
        ("controllers", dict(controller, properties={"num_queues": 3}), ("c", "num_queues")),
        ("controllers", dict(controller, bus="pci.1"), ("c", "bus")),
        ("objects", dict(key, file="/other"), ("k", "file")),
        ("objects", dict(thread, **{"poll-max-ns": 6}), ("t", "poll-max-ns")),
        ("objects", {"qom-type": "iothread", "id": "k"}, ("k", "object")),
    ):
        changed = [change if each["id"] == change["id"] else each for each in lists[name]]
        assert _waiting(_spec(encrypted, **dict(lists, **{name: changed})), state) == [what]
    other = dict(encrypted, encryption={"secret_file": "/other"})
    assert _waiting(_spec(other, **lists), state) == [("d", "secret_file")]


def test_a_shared_node_that_is_another_one_is_told() -> None:
    node = {"driver": "raw", "node-name": "base", "file": {"driver": "file", "filename": "/i/base"}, "read-only": True}
    files = [{"driver": "file", "filename": "/i/" + name} for name in "ab"]
    images = [{"blockdev": {"driver": "qcow2", "file": each, "backing": "base"}} for each in files]
    drives = [dict(DISK, id=f"d{number}", image=each) for number, each in enumerate(images)]
    wanted = _spec(*drives, nodes=[node])
    (shared,) = wanted.nodes
    has = LiveDrive("base", medium=foretell.medium(Drive("base", shared)))
    state = replace(predict(LiveState("pc"), plan.plan(wanted, LiveState("pc")).steps), shared=(has,))
    assert not _waiting(wanted, state)
    for change, what in (
        ({"file": {"driver": "file", "filename": "/i/other"}}, "image"),
        ({"driver": "qcow2"}, "image"),
        ({"cache": {"direct": True}}, "cache.direct"),
    ):
        assert _waiting(_spec(*drives, nodes=[dict(node, **change)]), state) == [("base", what)]


def test_a_layer_that_a_snapshot_has_put_on_an_image_is_told_until_the_definition_names_it() -> None:
    state = _with(DISK)
    (live,) = state.drives
    assert live.medium
    layered = replace(live, medium=replace(live.medium, driver="qcow2", file="/i/top", below=("/i/mid", "/i/a")))
    found = plan.plan(_spec(DISK), state.with_drive(layered))
    assert not found.steps and found.drift == (plan.Drift("d", "image", "/i/top", "/i/a"),)
    (waiting,) = found.needs_restart
    assert waiting.what == "image" and waiting.why.startswith("the VM writes to /i/top, an overlay of the declared")
    told = dict(DISK, image={"path": "/i/top", "format": "qcow2"})
    assert not [each for each in plan.plan(_spec(told), state.with_drive(layered)).drift if each.what == "image"]


def test_a_drive_that_the_guest_keeps_is_told_with_the_reason() -> None:
    assert "did not answer within 1 second: " in unplug.still_there(["a"], 1.0, False).message
    assert "The VM is paused, and its guest cannot answer: " in unplug.still_there(["a"], 1.0, True).message


@pytest.mark.parametrize(("name", "unnamed"), [("floppy0", True), ("sd0", True), ("ide1-cd0", True), ("mycd", False)])
def test_empty_drives_of_the_machine_itself_are_known_by_their_names(name: str, unnamed: bool) -> None:
    assert buses.is_unnamed(LiveDrive(name, removable=True)) is unnamed
    assert not buses.is_unnamed(LiveDrive(name, device="scsi-cd", device_id=name, removable=True))


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        ({"cache": {"direct": True}}, ["Open the image of d again with cache.direct on."]),
        ({"throttle": {"iops_total": 9}}, ["Throttle d: iops-total 9."]),
        ({"detect_zeroes": "on"}, ["Open the image of d again with detect-zeroes on."]),
    ],
)
def test_what_changes_while_it_runs(change: Task, steps: Words) -> None:
    assert _steps(_with(DISK), dict(DISK, **change)) == steps


def test_drives_of_one_group_have_one_step_for_its_limits() -> None:
    drives = [dict(DISK, id=f"d{n}", image={"path": f"/i/{n}", "format": "raw"}) for n in range(3)]
    old, new = ([dict(each, throttle={"group": "gold", "iops_total": n}) for each in drives] for n in (5, 6))
    assert _steps(_with(*old), *new) == ["Set the limits of the throttle group gold: iops-total 6."]
    assert _steps(_with(*old), *drives) == ["Set the limits of the throttle group gold: no limits."]


def test_a_medium_is_changed_and_taken_out() -> None:
    drive: Task = {"id": "cd", "device": "scsi-cd"}
    state = _with(drive)
    assert _steps(state, dict(drive, image=FILE)) == ["Put /i/a into cd."]
    state = _with(dict(drive, image=FILE), state=state)
    assert _steps(state, drive) == ["Take the medium out of cd."]


def test_ports_are_given_out_once_and_come_back() -> None:
    state = LiveState("q35", ports=("p1", "p2"), all_ports=frozenset(("p1", "p2")))
    drives = [dict(DISK, id=f"d{n}", image={"path": f"/i/{n}", "format": "raw"}) for n in range(3)]
    found = plan.plan(_spec(*drives, machine="q35"), state)
    assert [each.bus for each in found.steps if isinstance(each, actions.PlugDrive)] == ["p1", "p2"]
    assert [(each.drive, each.what) for each in found.needs_restart] == [("d2", "drive")]
    then = predict(state, found.steps)
    assert _steps(then, drives[1], drives[2], purge=True) == ["Unplug d0.", "Plug in d2 (virtio-blk-pci)."]
    more = plan.plan(_spec(drives[2], machine="q35"), replace(then, ports=("p3",)), purge=True)
    assert [each.bus for each in more.steps if isinstance(each, actions.PlugDrive)] == ["p3"]  # a guest may keep p1


@pytest.mark.parametrize(
    ("idle", "purge", "cleared"),
    [
        (Idle("platter.tried.0", ("platter.tried.0",)), False, True),
        (Idle("d", ("d",)), False, True),
        (Idle("gone", ("gone", "platter.0123456789.abcd.1")), False, True),
        (Idle("others", ("others",)), False, False),
        (Idle("others", ("others",)), True, True),
        (Idle("platter-0123456789abcdef", ("platter-0123456789abcdef",)), True, False),
    ],
)
def test_nodes_that_nobody_uses(idle: Idle, purge: bool, cleared: bool) -> None:
    state = LiveState("pc", idle=(idle,), nodes=frozenset(idle.names))
    assert any(each.startswith("Remove the unused nodes") for each in _steps(state, DISK, purge=purge)) is cleared


def test_what_cannot_be_unplugged_stays() -> None:
    medium = Medium("", (), "raw", "/i/a")
    fixed = LiveDrive("ide0-hd0", "ide-hd", "", medium, fixed="a running QEMU gives up no ide-hd in that place")
    found = plan.plan(_spec(), LiveState("pc", (fixed,)), purge=True)
    assert not found.steps and [each.why for each in found.needs_restart] == [fixed.fixed]


def test_what_is_inherited_makes_no_other_mark() -> None:
    """As QEMU's arguments may say it of a node below, and a task does not."""
    file = {"driver": "file", "filename": "/i/a"}

    def mark(**more: t.Any) -> str:
        node = {"driver": "raw", "cache": {"direct": True}, "file": dict(file, **more)}
        return image.mark(_spec(dict(DISK, image={"blockdev": node})).drives[0])

    assert mark() == mark(cache={"direct": True}) == mark(**{"node-name": "x"})
    assert mark() != mark(aio="native") and mark() != mark(cache={"no-flush": True})
