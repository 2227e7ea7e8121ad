"""What is made of a directory of keys, and what is left alone."""

from __future__ import annotations

import itertools

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import RefusedError, SpecError
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._keys.plan import plan_keys, warnings
from ansible_collections.platter.qemu.plugins.module_utils._keys.spec import KeysSpec, read_spec
from ansible_collections.platter.qemu.plugins.module_utils._keys.state import KeysReading, KeysState, Part

HOST = ("store1",)
SPECS = [
    KeysSpec("/k", server=HOST),
    KeysSpec("/k", server=HOST, clients=("a", "b")),
    KeysSpec("/k", server=("other",), clients=("b",), renew=True),
    KeysSpec("/k", kind="keys", clients=("a", "b")),
]
PARTS = {"ca": Part(), "server": Part(HOST), "clients/a": Part(("CN=a",))}
STATES = [
    KeysState("/k"),
    KeysState("/k", {"ca": Part()}, ("a",)),
    KeysState("/k", PARTS),
    KeysState("/k", {**PARTS, "ca": Part(lasting=False)}),
    KeysState("/k", {**PARTS, "clients/b": Part(("CN=b",), lasting=False)}, ("a", "b", "c")),
]


@pytest.mark.parametrize(("spec", "state"), list(itertools.product(SPECS, STATES)))
def test_a_plan_leaves_nothing_to_do(spec: KeysSpec, state: KeysState) -> None:
    plan = plan_keys(spec, state, KeysReading())
    after = predict(state, plan)
    assert plan_keys(spec, after, KeysReading()) == []
    assert all(after.parts[part].names == spec.names(part) for part in spec.parts if spec.kind == "certificates")
    assert not spec.renew or not warnings(spec, after)


def test_a_new_certificate_of_the_ca_needs_new_ones_of_all() -> None:
    spec = KeysSpec("/k", server=HOST, clients=("a",), renew=True)
    plan = plan_keys(spec, KeysState("/k", {**PARTS, "ca": Part(lasting=False)}), KeysReading())
    assert [str(action).partition(";")[0] for action in plan] == [
        "Renew the certificate in ca, for 365 days",
        "Renew the certificate in server, for store1, for 365 days",
        "Renew the certificate in clients/a, for CN=a, for 365 days",
    ]


@pytest.mark.parametrize(
    ("reading", "reason"),
    [
        (KeysReading(problems={"server": ("keys_foreign", "x")}), "keys_foreign"),
        (KeysReading(directory_problem=("unsafe_directory", "x", "y")), "unsafe_directory"),
        (KeysReading(ended=frozenset({"server"})), "keys_ended"),
    ],
)
def test_what_must_not_be_done_is_refused(reading: KeysReading, reason: str) -> None:
    with pytest.raises(RefusedError) as told:
        plan_keys(SPECS[0], KeysState("/k", PARTS), reading)
    assert told.value.reason == reason


def test_problems_of_clients_that_are_not_listed_do_not_matter() -> None:
    reading = KeysReading(problems={"clients/z": ("keys_foreign", "x")}, ended=frozenset({"clients/y"}))
    assert plan_keys(SPECS[0], KeysState("/k", PARTS), reading) == []


def test_other_names_are_no_silent_change() -> None:
    with pytest.raises(RefusedError) as told:
        plan_keys(KeysSpec("/k", server=("new",)), KeysState("/k", PARTS), KeysReading())
    assert told.value.reason == "keys_differ"


def test_addresses_are_written_in_their_shortest_form() -> None:
    assert read_spec({"directory": "/k", "server": ["0::1", "Store1"]}).server == ("::1", "store1")
    with pytest.raises(SpecError):
        read_spec({"directory": "/k", "server": ["a\nDNS:evil"]})
