"""From asked and so to steps: a plan leaves nothing to do, and no client is cut off without consent."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._export import actions, definition
from ansible_collections.platter.qemu.plugins.module_utils._export.plan import plan_export
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec
from ansible_collections.platter.qemu.plugins.module_utils._export.state import (
    Client,
    Definition,
    ExportReading,
    ExportState,
)

GROUND = definition.Ground("/i/a.qcow2", False, "/usr/bin/qemu-nbd")
SPEC = ExportSpec("web1", "/run/platter/web1.sock", "/i/a.qcow2", "qcow2")
SPECS = st.builds(
    ExportSpec,
    name=st.just("web1"),
    socket=st.sampled_from(["/run/platter/web1.sock", "/s"]),
    image=st.just("/i/a.qcow2"),
    format=st.sampled_from(["raw", "qcow2"]),
    state=st.sampled_from(["present", "stopped", "absent"]),
    read_only=st.booleans(),
    offset=st.sampled_from([0, 512]),
    allow_disconnect=st.booleans(),
)
CLIENTS = (Client(4711, "qemu-io"),)
READING = ExportReading(target="/i/a.qcow2", kind="file", header=Header("qcow2", 1 << 20), length=1 << 20)


def wanted(spec: ExportSpec) -> t.Optional[Definition]:
    return definition.define(spec, GROUND) if spec.state == "present" else None


@st.composite
def states(draw: st.DrawFn) -> ExportState:
    """What can be found: other definitions, servers without supervisors and the other way round, lost sockets."""
    declared = draw(st.none() | SPECS.map(lambda spec: definition.define(spec, GROUND)))
    argv = draw(
        st.none() | st.just(("/usr/bin/qemu-nbd", "else")) | SPECS.map(lambda s: definition.define(s, GROUND).argv)
    )
    running = argv is not None
    return ExportState("web1", declared, argv, running and draw(st.booleans()), running and draw(st.booleans()))


@given(SPECS, states(), st.sampled_from([(), CLIENTS]), st.sampled_from([(), (7,)]))
def test_a_plan_leaves_nothing_to_do(spec: ExportSpec, state: ExportState, clients: t.Any, supervisors: t.Any) -> None:
    reading = replace(READING, clients=clients if state.running else (), supervisors=supervisors)
    try:
        plan = plan_export(spec, state, reading, wanted(spec))
    except errors.RefusedError as exc:
        assert exc.reason == "export_busy" and reading.clients and not spec.allow_disconnect
        return
    after = predict(state, plan)
    settled = replace(READING, supervisors=(8,) if after.supervised else ())
    assert plan_export(spec, after, settled, wanted(spec)) == []
    assert after.running == (spec.state == "present")
    assert after.definition == (wanted(spec) or (state.definition if spec.state == "stopped" else None))


@given(SPECS, states())
def test_a_server_with_clients_ends_only_with_consent(spec: ExportSpec, state: ExportState) -> None:
    reading = replace(READING, clients=CLIENTS if state.running else ())
    try:
        plan = plan_export(spec, state, reading, wanted(spec))
    except errors.RefusedError:
        return
    stops = [action for action in plan if isinstance(action, actions.StopServer)]
    assert not (stops and state.running) or spec.allow_disconnect


def test_what_clients_may_lose_depends_on_what_was_served_until_now() -> None:
    served = definition.define(replace(SPEC, read_only=False), GROUND)
    state = ExportState("web1", served, served.argv, True, True)
    with pytest.raises(errors.RefusedError, match="not acknowledged yet may be lost"):
        plan_export(SPEC, state, replace(READING, clients=CLIENTS), wanted(SPEC))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"kind": "absent", "header": None}, "image_missing"),
        ({"kind": "directory", "header": None}, "not_a_file"),
        ({"header": None}, "format_mismatch"),
        ({"header": Header("qcow2", 1 << 20, corrupt=True)}, "image_corrupt"),
        ({"header": Header("qcow2", 1 << 20, encrypted=True)}, "image_encrypted"),
        ({"header": Header("qcow2", 1 << 20, unknown_features=("x",))}, "unknown_features"),
        ({"header": Header("vdi", 1 << 20, least_length=2 << 20)}, "image_damaged"),
        ({"chain_problem": ("base_missing", "x does not exist")}, "base_missing"),
        ({"foreign_listener": True}, "socket_in_use"),
        ({"socket_problem": ("unsafe_directory", "x", "y")}, "unsafe_directory"),
    ],
)
def test_what_is_not_sound_is_not_served(more: t.Dict[str, t.Any], reason: str) -> None:
    with pytest.raises(errors.RefusedError) as caught:
        plan_export(SPEC, ExportState("web1"), replace(READING, **more), wanted(SPEC))
    assert caught.value.reason == reason


def test_a_silent_server_is_no_success() -> None:
    served = definition.define(SPEC, GROUND)
    state = ExportState("web1", served, served.argv, True, True)
    with pytest.raises(errors.RefusedError) as caught:
        plan_export(SPEC, state, replace(READING, silent=True), wanted(SPEC))
    assert caught.value.reason == "export_unresponsive"
