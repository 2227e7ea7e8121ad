"""From asked and so to steps: a plan leaves nothing to do, and what somebody else has started is left alone."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._power import actions, definition, refuse, unit
from ansible_collections.platter.qemu.plugins.module_utils._power.plan import plan_power
from ansible_collections.platter.qemu.plugins.module_utils._power.spec import PowerSpec
from ansible_collections.platter.qemu.plugins.module_utils._power.state import PowerReading, PowerState

SPEC = PowerSpec("web1", "/etc/platter/vm/web1", "/run/platter/web1.qmp")
KINDS = ("process", "systemd")


def declared(kind: str, spec: PowerSpec = SPEC) -> definition.Declared:
    made = definition.define(spec, kind, spec.config + "/start", ("-display", "none"))
    return unit.as_unit(made, ("/usr/bin/python3", "power_down.py"), spec.stop_timeout) if kind == "systemd" else made


@st.composite
def states(draw: st.DrawFn) -> PowerState:
    """What can be found: declared for another socket, running with nothing that watches over it, at boot and not."""
    found = draw(
        st.none() | st.sampled_from([declared(k, replace(SPEC, qmp_socket=p)) for k in KINDS for p in ("/a", "/b")])
    )
    running = draw(st.booleans())
    supervisor = draw(st.sampled_from(["", *KINDS])) if running else ""
    return PowerState("web1", found, running, supervisor, draw(st.booleans()))


@given(st.sampled_from(["started", "stopped", "absent"]), states(), st.booleans(), st.sampled_from(KINDS))
def test_a_plan_leaves_nothing_to_do(asked: str, state: PowerState, watched: bool, kind: str) -> None:
    spec = replace(SPEC, state=asked)
    wanted = declared((state.supervisor or "process") if state.running else kind) if asked == "started" else None
    plan = plan_power(spec, state, PowerReading(watched=watched), wanted)
    after = predict(state, plan)
    assert plan_power(spec, after, PowerReading(watched=after.running), wanted) == []
    assert after.supervisor if asked == "started" else not after.at_boot
    assert after.running == (asked == "started") and (after.declared is None if asked == "absent" else True)


@given(states(), st.sampled_from(KINDS))
def test_what_runs_goes_on(state: PowerState, kind: str) -> None:
    running = replace(state, running=True, supervisor=state.supervisor or kind)
    plan = plan_power(SPEC, running, PowerReading(), declared(running.supervisor))
    assert not any(isinstance(action, (actions.StopVm, actions.StartVm)) for action in plan)


@pytest.mark.parametrize(
    "asked, then", [("started", "run the task again"), ("stopped", "it is as asked"), ("absent", "it is as asked")]
)
def test_what_others_have_started_is_left_alone_and_how_it_ends_is_told(asked: str, then: str) -> None:
    line = ("qemu-system-x86_64", "-qmp", "unix:/run/web1.qmp,server=on,wait=off")
    with pytest.raises(errors.RefusedError) as caught:
        plan_power(replace(SPEC, state=asked), PowerState("web1"), PowerReading((), (4711,), (line,)), None)
    evidence = {"pids": [4711], "command_lines": [list(line)], "qmp_sockets": ["/run/web1.qmp"]}
    assert (caught.value.reason, caught.value.facts["evidence"]) == ("already_running", evidence)
    told = "Have its guest power down (system_powerdown at /run/web1.qmp), or let QEMU quit (kill 4711)"
    assert told in caught.value.message and caught.value.message.endswith("then %s." % then)


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("secret,id=s,data=a,,b,format=raw", "secret,id=s,data=***,format=raw"),
        ('{"qom-type": "secret", "data": "a\\"b", "id": "s"}', '{"qom-type": "secret", "data": "***", "id": "s"}'),
        ("file=https://me:a@host/x,if=none", "file=https://me:***@host/x,if=none"),
        ("file=/srv/data=1.raw,id=data", "file=/srv/data=1.raw,id=data"),
    ],
)
def test_what_others_have_started_keeps_its_secrets(word: str, shown: str) -> None:
    with pytest.raises(errors.RefusedError) as caught:
        plan_power(SPEC, PowerState("web1"), PowerReading((), (4711,), (("qemu", word),)), None)
    assert caught.value.facts["evidence"]["command_lines"] == [["qemu", shown]]


def test_of_many_some_are_named_and_the_others_counted() -> None:
    with pytest.raises(errors.RefusedError) as caught:
        plan_power(SPEC, PowerState("web1"), PowerReading((), tuple(range(11, 18)), ()), None)
    assert "(process 11, 12, 13, 14, 15 and 2 more)" in caught.value.message
    assert "power down from within, or let QEMU quit (kill PID)" in caught.value.message


@pytest.mark.parametrize(
    "reading, reason",
    [
        (PowerReading(altered=True), "definition_altered"),
        (PowerReading(unfit="-daemonize"), "definition_unfit"),
        (PowerReading(socket_taken=True), "socket_in_use"),
        (PowerReading(socket_problem=("unsafe_directory", "others", "Do not.")), "unsafe_directory"),
        (PowerReading(load="masked"), "unit_masked"),
    ],
)
def test_what_would_not_start_well_is_not_started(reading: PowerReading, reason: str) -> None:
    with pytest.raises(errors.RefusedError) as caught:
        plan_power(SPEC, PowerState("web1"), reading, declared("systemd"))
    assert caught.value.reason == reason and caught.value.facts["evidence"]


@pytest.mark.parametrize("asked", ["started", "stopped", "absent"])
def test_a_unit_of_others_stays(asked: str) -> None:
    path = "/etc/systemd/system/platter-vm-web1.service"
    found = PowerState("web1", definition.Declared((), {"unreadable": path}, "[Service]"))
    with pytest.raises(errors.RefusedError) as caught:
        plan_power(replace(SPEC, state=asked), found, PowerReading(), declared("systemd"))
    assert caught.value.reason == "unit_foreign"


@pytest.mark.parametrize(
    "reading, reason, told",
    [
        (PowerReading(defined=False), "definition_missing", "Define it first"),
        (PowerReading(defined=False, elsewhere="/srv/web1"), "definition_missing", "that is in /srv/web1"),
        (PowerReading(defined_as="db1"), "name_taken", "the definition of VM db1"),
    ],
)
def test_what_is_not_defined_is_not_started(reading: PowerReading, reason: str, told: str) -> None:
    with pytest.raises(errors.RefusedError) as caught:
        refuse.refuse_undefined(SPEC, reading)
    assert caught.value.reason == reason and told in caught.value.message


def test_what_is_written_down_is_read_back() -> None:
    for kind, parse in (("process", definition.parse), ("systemd", unit.parse)):
        made: t.Optional[definition.Declared] = declared(kind)
        assert made is not None and parse(made.text) == made
