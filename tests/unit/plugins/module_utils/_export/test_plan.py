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
from ansible_collections.platter.qemu.plugins.module_utils._export import actions, definition, unit
from ansible_collections.platter.qemu.plugins.module_utils._export.ground import Ground
from ansible_collections.platter.qemu.plugins.module_utils._export.plan import plan_export
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec
from ansible_collections.platter.qemu.plugins.module_utils._export.state import (
    Client,
    Definition,
    ExportReading,
    ExportState,
    Host,
    Unit,
)

GROUND = Ground("/i/a.qcow2", False, "/usr/bin/qemu-nbd")
SPEC = ExportSpec("web1", "/run/platter/web1.sock", "/i/a.qcow2", "qcow2", supervisor="process")
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
    supervisor=st.sampled_from(["process", "systemd"]),
)
CLIENTS = (Client(4711, "qemu-io"),)
READING = ExportReading(target="/i/a.qcow2", kind="file", header=Header("qcow2", 1 << 20), length=1 << 20)


def declared(spec: ExportSpec) -> Definition:
    """As it is written down for the supervisor that the spec names."""
    made = definition.define(spec, GROUND._replace(supervisor=spec.supervisor))
    return unit.as_unit(spec.name, made, GROUND.target) if spec.supervisor == "systemd" else made


def wanted(spec: ExportSpec) -> t.Optional[Definition]:
    return declared(spec) if spec.state == "present" else None


@st.composite
def states(draw: st.DrawFn) -> ExportState:
    """What can be found: other definitions, servers without supervisors and the other way round, lost sockets."""
    found = draw(st.none() | SPECS.map(declared))
    argv = draw(st.none() | st.just(("/usr/bin/qemu-nbd", "else")) | SPECS.map(lambda s: declared(s).argv))
    running = argv is not None
    supervisor = draw(st.sampled_from(["", "process", "systemd"])) if running else ""
    supervised, at_boot = bool(supervisor) and draw(st.booleans()), draw(st.booleans())
    at_boot = at_boot or (supervised and supervisor == "systemd")
    return ExportState("web1", found, argv, running and draw(st.booleans()), supervised, supervisor, at_boot)


@given(
    SPECS,
    states(),
    st.sampled_from([(), CLIENTS]),
    st.sampled_from([(), (7,)]),
    st.sampled_from(["inactive", "activating"]),
)
def test_a_plan_leaves_nothing_to_do(
    spec: ExportSpec, state: ExportState, clients: t.Any, supervisors: t.Any, active: str
) -> None:
    in_unit = Unit("loaded", "active" if state.supervisor == "systemd" else active)
    reading = replace(READING, clients=clients if state.running else (), supervisors=supervisors, unit=in_unit)
    try:
        plan = plan_export(spec, state, reading, wanted(spec))
    except errors.RefusedError as exc:
        assert exc.reason == "export_busy" and reading.clients and not spec.allow_disconnect
        return
    after = predict(state, plan)
    kind = after.supervisor
    settled = replace(
        READING,
        supervisors=(8,) if kind == "process" else (),
        unit=Unit(active="active" if kind == "systemd" else "failed"),
    )
    assert plan_export(spec, after, settled, wanted(spec)) == []
    assert after.running == (spec.state == "present")
    assert after.at_boot == (after.running and spec.supervisor == "systemd")
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
    served = declared(replace(SPEC, read_only=False))
    state = ExportState("web1", served, served.argv, True, True, "process")
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
        ({"foreign_listener": True, "foreign_export": ":lot"}, "socket_in_use"),
        ({"socket_problem": ("unsafe_directory", "x", "y")}, "unsafe_directory"),
    ],
)
def test_what_is_not_sound_is_not_served(more: t.Dict[str, t.Any], reason: str) -> None:
    with pytest.raises(errors.RefusedError) as caught:
        plan_export(SPEC, ExportState("web1"), replace(READING, **more), wanted(SPEC))
    assert caught.value.reason == reason and caught.value.facts["evidence"]


def test_what_is_missing_may_be_what_an_earlier_task_would_make() -> None:
    missing = replace(READING, kind="absent", header=None)
    with pytest.raises(
        errors.RefusedError, match="What an earlier task of a run in check mode would make is not there"
    ):
        plan_export(SPEC, ExportState("web1"), missing, wanted(SPEC))


def test_a_silent_server_is_no_success() -> None:
    served = declared(SPEC)
    state = ExportState("web1", served, served.argv, True, True, "process")
    with pytest.raises(errors.RefusedError) as caught:
        plan_export(SPEC, state, replace(READING, silent=True), wanted(SPEC))
    assert caught.value.reason == "export_unresponsive"


@pytest.mark.parametrize(("now", "then"), [("process", "systemd"), ("systemd", "process")])
def test_another_supervisor_is_another_server(now: str, then: str) -> None:
    spec, served = replace(SPEC, supervisor=then), declared(replace(SPEC, supervisor=now))
    state = ExportState("web1", served, served.argv, True, True, now)
    reading = replace(READING, unit=Unit("loaded", "active" if now == "systemd" else "inactive"))
    plan = plan_export(spec, state, reading, wanted(spec))
    assert [type(action) for action in plan] == [actions.StopServer, actions.DeclareExport, actions.StartServer]
    assert isinstance(plan[0], actions.StopServer) and plan[0].in_unit == (now == "systemd")
    with pytest.raises(errors.RefusedError) as caught:
        plan_export(spec, state, replace(reading, clients=CLIENTS), wanted(spec))
    assert caught.value.reason == "export_busy"


def test_a_unit_that_is_not_started_at_boot_is_and_clients_notice_nothing() -> None:
    spec = replace(SPEC, supervisor="systemd")
    served = declared(spec)
    state = ExportState("web1", served, served.argv, True, False, "systemd", False)
    reading = replace(READING, clients=CLIENTS, unit=Unit("loaded", "active"))
    assert plan_export(spec, state, reading, served) == [actions.SuperviseServer("web1", "systemd")]


def test_only_what_would_be_declared_otherwise_is_written() -> None:
    """A newer version of this collection may write another unit; servers go on in the old one."""
    spec = replace(SPEC, supervisor="systemd")
    served = declared(spec)
    older = replace(served, text=served.text.replace("RestartSec=500ms", "RestartSec=1"))
    state = ExportState("web1", older, served.argv, True, True, "systemd", True)
    reading = replace(READING, clients=CLIENTS, unit=Unit("loaded", "active"))
    assert plan_export(spec, state, reading, served) == [actions.DeclareExport("web1", served)]


def test_a_server_that_systemd_is_about_to_start_again_is_stopped() -> None:
    reading = replace(READING, unit=Unit("loaded", "activating"))
    plan = plan_export(replace(SPEC, state="stopped"), ExportState("web1", declared(SPEC)), reading, None)
    assert plan == [actions.StopServer("web1", in_unit=True)]


def test_a_mask_is_a_refusal() -> None:
    spec = replace(SPEC, supervisor="systemd")
    with pytest.raises(errors.RefusedError, match="systemctl unmask platter-nbd-web1") as caught:
        plan_export(spec, ExportState("web1"), replace(READING, unit=Unit("masked")), wanted(spec))
    assert caught.value.reason == "unit_masked"
    assert plan_export(SPEC, ExportState("web1"), replace(READING, unit=Unit("masked")), wanted(SPEC))


@pytest.mark.parametrize("state", ["present", "stopped", "absent"])
def test_a_unit_of_others_is_left_alone(state: str) -> None:
    theirs = Definition((), {"unreadable": unit.unit_file("web1")}, "[Service]")
    spec = replace(SPEC, state=state)
    with pytest.raises(errors.RefusedError) as caught:
        plan_export(spec, ExportState("web1", theirs), READING, wanted(spec))
    assert caught.value.reason == "unit_foreign"


# --- exports of storage daemons

DAEMON = GROUND._replace(program="/usr/bin/qemu-storage-daemon", server="storage_daemon", monitor="/m", loader=("/l",))


def in_daemon(spec: ExportSpec, daemon: str = "lots") -> Definition:
    """As it is written down for a storage daemon."""
    spec = replace(spec, server="storage_daemon", daemon=daemon)
    return definition.define(spec, DAEMON._replace(supervisor=spec.supervisor))


def host_of(made: Definition, *others: str) -> Host:
    """The daemon of such a definition."""
    assert made.host
    return Host(made.host.argv, made.options["supervisor"], others)


@given(SPECS, SPECS, *[st.booleans()] * 5)
def test_a_plan_for_a_daemon_leaves_nothing_to_do(
    spec: ExportSpec, before: ExportSpec, running: bool, watched: bool, at_boot: bool, left: bool, clients: bool
) -> None:
    found = in_daemon(before)
    state = ExportState("web1", found, at_boot=at_boot or (running and watched))
    if running:
        state = replace(state, argv=found.argv, reachable=True, supervised=watched, supervisor=before.supervisor)
    made = in_daemon(spec) if spec.state == "present" else None
    reading = replace(READING, daemon="lots", left=left, host=host_of(found), clients=CLIENTS if clients else ())
    plan = plan_export(spec, state, reading, made)
    after = predict(state, plan)
    assert plan_export(spec, after, replace(READING, daemon="lots" if after.definition else ""), made) == []
    assert after.running == after.at_boot == (spec.state == "present")
    stops = [action for action in plan if isinstance(action, actions.StopServer)]
    assert all(action.daemon == "lots" and not action.in_unit for action in stops)


@pytest.mark.parametrize("more", [{"socket": "/other"}, {"supervisor": "systemd"}, {"shared": 3}], ids=str)
def test_the_others_of_a_daemon_stay_where_they_are(more: t.Dict[str, t.Any]) -> None:
    found, spec = in_daemon(SPEC), replace(SPEC, **more)
    state = ExportState("web1", found, found.argv, True, True, "process", True)
    reading = replace(READING, daemon="lots", host=host_of(found, "web2"))
    with pytest.raises(errors.RefusedError) as caught:
        plan_export(spec, state, reading, in_daemon(spec))
    assert caught.value.reason == "daemon_differs"
    assert len(plan_export(spec, state, replace(reading, host=host_of(found)), in_daemon(spec))) == 3
    assert plan_export(SPEC, state, reading, found) == []


def test_what_a_daemon_serves_undeclared_is_declared_and_clients_notice_nothing() -> None:
    made = in_daemon(SPEC)
    state = ExportState("web1", None, made.argv, True, False, "process", False)
    reading = replace(READING, daemon="lots", host=host_of(made), clients=CLIENTS)
    plan = plan_export(SPEC, state, reading, made)
    assert [type(action) for action in plan] == [actions.DeclareExport, actions.SuperviseServer]
