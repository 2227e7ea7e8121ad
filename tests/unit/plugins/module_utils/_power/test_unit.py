"""The unit of a VM: what it is started by, how it is ended, and that no name becomes a directive."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._power import definition, unit
from ansible_collections.platter.qemu.plugins.module_utils._power.spec import PowerSpec

SPEC = PowerSpec("web1", "/etc/platter/vm/web1", "/run/platter/web1.qmp")
PATHS = st.text(st.characters(blacklist_characters="\0/"), min_size=1, max_size=20).map("/srv/".__add__)


def unit_of(spec: PowerSpec) -> definition.Declared:
    made = definition.define(spec, "systemd", spec.config + "/start", ("-qmp", "unix:x,server=on", "-display", "none"))
    return unit.as_unit(made, ("/usr/bin/python3", "-I", "/p/power_down.py"), spec.stop_timeout)


def directives(made: definition.Declared, key: str) -> t.List[str]:
    return [line.partition("=")[2] for line in made.text.splitlines() if line.startswith(key + "=")]


def test_the_guest_is_asked_then_qemu_and_nothing_is_killed() -> None:
    made = unit_of(replace(SPEC, stop_timeout=90))
    assert directives(made, "ExecStop") == ["/usr/bin/python3 -I /p/power_down.py /run/platter/web1.qmp 90"]
    assert directives(made, "SendSIGKILL") == ["no"] and directives(made, "KillMode") == ["mixed"]
    assert directives(made, "TimeoutStopSec") == ["150"]
    patient = unit_of(replace(SPEC, stop_timeout=2e6))  # systemd reads no 2e+06, and would wait for 90 s
    assert directives(patient, "TimeoutStopSec") == ["2000060"]


def test_it_starts_what_is_defined_then() -> None:
    (line,) = directives(unit_of(SPEC), "ExecStart")
    assert line == "/bin/sh /etc/platter/vm/web1/start -qmp unix:x,server=on -display none"


def test_a_guest_that_powers_itself_off_stays_off() -> None:
    assert directives(unit_of(SPEC), "Restart") == ["on-failure"]


def test_the_directory_of_the_socket_is_made_at_boot_where_it_is_ours() -> None:
    assert directives(unit_of(SPEC), "RuntimeDirectory") == ["platter"]
    assert not directives(unit_of(replace(SPEC, qmp_socket="/srv/x.qmp")), "RuntimeDirectory")


@given(PATHS, PATHS)
def test_no_name_becomes_a_directive(config: str, socket: str) -> None:
    plain = [line.partition("=")[0] for line in unit_of(replace(SPEC, qmp_socket="/srv/x")).text.splitlines()]
    made = unit_of(replace(SPEC, config=config, qmp_socket=socket))
    assert [line.partition("=")[0] for line in made.text.split("\n")[:-1]] == plain
    assert unit.parse(made.text) == made
