"""From asked and so to steps: a plan leaves nothing to do, and no disk is attached that nobody has named."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._device import actions, plan
from ansible_collections.platter.qemu.plugins.module_utils._device.read_spec import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._device.spec import DeviceSpec, Identity
from ansible_collections.platter.qemu.plugins.module_utils._device.state import Content, DeviceReading, DeviceState

LINK = "/dev/platter/web1"
MIB = 1 << 20
SPEC = DeviceSpec("web1", source="/i/a.raw", format="raw")
READING = DeviceReading(target="/i/a.raw", kind="file", length=8 * MIB, contents=())
SPECS = st.builds(
    DeviceSpec,
    name=st.just("web1"),
    source=st.sampled_from(["/i/a.raw", "/i/b.raw"]),
    format=st.just("raw"),
    state=st.sampled_from(["present", "absent"]),
    device=st.sampled_from(["auto", "/dev/loop3"]),
    read_only=st.booleans(),
    offset=st.sampled_from([0, 512]),
    size=st.sampled_from([None, MIB]),
    sector_size=st.sampled_from([None, 4096]),
    direct_io=st.booleans(),
)


def found(spec: DeviceSpec, length: int) -> DeviceState:
    """As it is after such a task, when the file had that length."""
    here = plan.wanted(spec, replace(READING, target=str(spec.source), length=length))
    return DeviceState("web1", here, linked=True)


@st.composite
def states(draw: st.DrawFn) -> DeviceState:
    """What can be found: devices of other tasks, lost links, links to nothing."""
    there = draw(st.none() | SPECS.map(lambda spec: found(spec, 4 * MIB)))
    return replace(there or DeviceState("web1"), linked=draw(st.booleans()))


@given(SPECS, states())
def test_a_plan_leaves_nothing_to_do(spec: DeviceSpec, state: DeviceState) -> None:
    reading = replace(READING, target=str(spec.source))
    try:
        steps = plan.plan_device(spec, state, reading, LINK)
    except errors.RefusedError as exc:
        assert exc.reason == "name_taken"
        return
    assert plan.plan_device(spec, predict(state, steps), reading, LINK) == []


@given(SPECS, states())
def test_a_device_is_let_go_before_another_is_attached_and_named_last(spec: DeviceSpec, state: DeviceState) -> None:
    try:
        steps = plan.plan_device(spec, state, replace(READING, target=str(spec.source)), LINK)
    except errors.RefusedError:
        return
    kinds = [type(step) for step in steps]
    attaching = actions.AttachDevice in kinds
    assert attaching == (
        spec.state == "present" and plan.must_attach(spec, state, replace(READING, target=spec.source))
    )
    if attaching:
        assert kinds[-1] is actions.LinkDevice
        assert (kinds[0] is actions.DetachDevice) == (state.attached is not None)


EXT4, GPT, RAID = Content("ext4", "1-A"), Content("gpt", "2-B"), Content("linux_raid_member", "3-C")
MATTERS: t.Sequence[t.Tuple[t.Sequence[Content], Identity, bool, str]] = [
    ([], Identity(), False, ""),
    ([GPT], Identity(), True, ""),
    ([GPT], Identity(), False, "signature_present"),
    ([EXT4], Identity(), True, "signature_present"),
    ([EXT4], Identity(signature=("ext4",)), False, ""),
    ([EXT4], Identity(uuid="1-a"), False, ""),
    ([RAID, EXT4], Identity(uuid="1-a"), True, "signature_present"),
    ([RAID, EXT4], Identity(signature=("ext4",)), True, "identity_mismatch"),
    ([RAID, EXT4], Identity(signature=("ext4", "linux_raid_member"), uuid="3-C"), True, ""),
    ([RAID], Identity(signature=("none",)), True, "identity_mismatch"),
    ([], Identity(signature=("none",)), False, ""),
    ([], Identity(signature=("none", "ext4")), False, ""),
    ([EXT4], Identity(signature=("none", "ext4")), False, ""),
    ([RAID], Identity(signature=("none", "ext4")), True, "identity_mismatch"),
    ([RAID, EXT4], Identity(signature=("none", "ext4")), True, "identity_mismatch"),
    ([], Identity(uuid="3-C", signature=("none", "linux_raid_member")), False, ""),
    ([RAID], Identity(uuid="3-C", signature=("none", "linux_raid_member")), False, ""),
    ([RAID], Identity(uuid="4-D", signature=("none", "linux_raid_member")), False, "identity_mismatch"),
    ([], Identity(signature=("ext4",)), False, "identity_mismatch"),
    ([], Identity(uuid="1-A"), False, "identity_mismatch"),
    ([], Identity(size=8 * MIB), False, ""),
    ([], Identity(size=4 * MIB), False, "identity_mismatch"),
    ([EXT4], Identity(size=8 * MIB), False, "signature_present"),
]


@pytest.mark.parametrize(("contents", "identity", "read_only", "reason"), MATTERS)
def test_a_disk_is_attached_when_what_is_on_it_is_named(
    contents: t.Sequence[Content], identity: Identity, read_only: bool, reason: str
) -> None:
    spec = replace(SPEC, identity=identity, read_only=read_only)
    try:
        plan.plan_device(spec, DeviceState("web1"), replace(READING, contents=tuple(contents)), LINK)
        told = ""
    except errors.RefusedError as exc:
        told = exc.reason
    assert told == reason


def test_what_is_attached_already_is_not_asked_for_its_identity() -> None:
    spec = replace(SPEC, identity=Identity(signature=("none",)))
    assert plan.plan_device(spec, found(spec, 8 * MIB), replace(READING, contents=None), LINK) == []


@pytest.mark.parametrize(
    ("source", "device", "now", "kernel", "kind"),
    [
        ("raw", "auto", "", True, "loop"),
        ("raw", "/dev/loop1", "", True, "loop"),
        ("raw", "/dev/nbd1", "", True, "nbd"),
        ("raw", "auto", "nbd", True, "nbd"),
        ("raw", "auto", "fuse", True, "loop"),
        ("qcow2", "auto", "loop", True, "nbd"),
        ("qcow2", "auto", "", True, "nbd"),
        ("qcow2", "auto", "", False, "fuse"),
        ("qcow2", "auto", "fuse", True, "fuse"),
        ("qcow2", "auto", "nbd", False, "nbd"),
        ("qcow2", "/dev/loop1", "nbd", True, "fuse"),
        ("uri", "auto", "", True, "nbd"),
        ("uri", "auto", "", False, "fuse"),
    ],
)
def test_the_kernel_and_the_task_choose_how(source: str, device: str, now: str, kernel: bool, kind: str) -> None:
    what = {"source": "nbd://h/x"} if source == "uri" else {"source": "/i/a", "format": source}
    spec = read_spec({"name": "web1", "device": device, **what})
    assert plan.kind_of(spec, now, lambda: kernel) == kind
