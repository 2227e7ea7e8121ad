"""From asked and so to steps: a plan leaves nothing to do, and what runs goes on until another is written."""

from __future__ import annotations

import typing as t

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._service.plan import plan_service
from ansible_collections.platter.qemu.plugins.module_utils._service.state import Parts, ServiceState

NEW, OLD = Parts("new", "1", ("unit",)), Parts("old", "1", ("unit",))
WHAT = "the keeper of array data"
SUPERVISORS = st.sampled_from(["systemd", "process"])
STATES = st.one_of(
    st.builds(ServiceState, st.just("data"), enabled=st.booleans(), running=st.booleans()),
    st.builds(
        ServiceState,
        st.just("data"),
        SUPERVISORS,
        st.sampled_from([NEW, OLD]),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
)


@given(SUPERVISORS, STATES, st.sampled_from([NEW, None]))
def test_a_plan_leaves_nothing_to_do(supervisor: str, state: ServiceState, wanted: t.Optional[Parts]) -> None:
    after = predict(state, plan_service(WHAT, supervisor, state, wanted))
    assert plan_service(WHAT, supervisor, after, wanted) == []
    assert (after.parts, after.running, after.outdated) == (wanted, wanted is not None, False)
    assert after.enabled == (wanted is not None and supervisor == "systemd")


@given(SUPERVISORS, STATES)
def test_what_runs_goes_on_until_another_is_written(supervisor: str, state: ServiceState) -> None:
    kinds = [type(step).__name__ for step in plan_service(WHAT, supervisor, state, NEW)]
    assert kinds.count("StopService") == (state.running and state.supervisor != supervisor)
    if "WriteService" in kinds:
        assert kinds[-2:] == ["WriteService", "StartService"]


def test_one_that_was_written_and_not_started_is_started() -> None:
    killed = ServiceState("data", "systemd", NEW, True, running=True, outdated=True)
    assert [str(step) for step in plan_service(WHAT, "systemd", killed, NEW)] == ["Start the keeper of array data."]
