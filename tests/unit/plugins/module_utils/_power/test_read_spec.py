"""The options of a task as a value."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._module import power_options
from ansible_collections.platter.qemu.plugins.module_utils._power.read_spec import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._power.spec import PowerSpec


def told(**more: t.Any) -> t.Dict[str, t.Any]:
    return {**power_options.DEFAULTS, "vm": "web1", **more}


def test_what_is_not_said_has_its_place() -> None:
    assert read_spec(told(), "/run/platter") == PowerSpec("web1", "/etc/platter/vm/web1", "/run/platter/web1.qmp")


@pytest.mark.parametrize(
    "wrong, reason",
    [
        ({"vm": "a b"}, "bad_name"),
        ({"vm": ""}, "bad_name"),
        ({"config": "web1"}, "bad_path"),
        ({"config": "/etc/../web1"}, "bad_path"),
        ({"qmp_socket": "x"}, "bad_path"),
        ({"qmp_socket": "/" + 107 * "x"}, "bad_path"),
        ({"start_timeout": 0}, "bad_option"),
        ({"stop_timeout": -1}, "bad_option"),
    ],
)
def test_what_cannot_be_is_refused(wrong: t.Dict[str, t.Any], reason: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        read_spec(told(**wrong), "/run/platter")
    assert caught.value.reason == reason


def test_an_entry_has_places_of_its_own() -> None:
    entries = [{"vm": "a", "stop_timeout": 5}, {"vm": "b", "config": "/b"}]
    specs = [
        read_spec(each, "/r") for each in power_options.items(told(vm=None, config="/x", state="stopped", vms=entries))
    ]
    assert [(each.config, each.qmp_socket) for each in specs] == [("/etc/platter/vm/a", "/r/a.qmp"), ("/b", "/r/b.qmp")]
    assert [(each.state, each.stop_timeout) for each in specs] == [("stopped", 5.0), ("stopped", 120.0)]
