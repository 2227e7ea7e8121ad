"""What of an export would change, as a refusal tells it."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._export import definition, difference
from ansible_collections.platter.qemu.plugins.module_utils._export.ground import Ground
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import Encryption, ExportSpec, Throttle, TlsSpec
from ansible_collections.platter.qemu.plugins.module_utils._export.state import Definition, ExportState

SPEC = ExportSpec("web1", "/s", "/i/a.qcow2", "qcow2", supervisor="process")
GROUND = Ground("/i/a.qcow2", False, "/usr/bin/qemu-nbd", supervisor="process")


def written(**more: t.Any) -> Definition:
    """As it is read again from the file of the definition."""
    found = definition.parse(definition.define(replace(SPEC, **more), GROUND).text)
    assert found is not None
    return found


def asked(**more: t.Any) -> Definition:
    return definition.define(replace(SPEC, **more), GROUND)


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ({}, {"shared": 3}, "shared from 16 to 3"),
        ({"shared": 3}, {}, "shared from 3 to 16"),
        ({"bitmaps": ("a",)}, {"bitmaps": ("a", "b")}, 'bitmaps from ["a"] to ["a", "b"]'),
        ({"throttle": Throttle(iops=9)}, {}, 'throttle from {"iops": 9} to none'),
        (
            {"read_only": False, "size": 512},
            {"offset": 512},
            "read_only from false to true, size from 512 to none, offset from 0 to 512",
        ),
        (
            {"encryption": Encryption("/k/old")},
            {"encryption": Encryption("/k/new")},
            'encryption from {"secret_file": "/k/old"} to {"secret_file": "/k/new"}',
        ),
        ({"tls": TlsSpec(psk_file="/k")}, {}, 'tls from {"psk_file": "/k"} to none'),
        ({}, {"bind": "::1", "socket": None}, "socket from /s to none, bind from none to ::1, port from none to 10809"),
    ],
)
def test_each_option_is_told_with_both_values(was: t.Any, now: t.Any, told: str) -> None:
    found = difference.changes(written(**was), asked(**now))
    assert difference.why_anew(found) == "options would change (%s)" % told
    assert all(each["old"] != each["new"] for each in difference.evidence(found).values())


def test_what_is_the_same_is_no_change() -> None:
    more = {
        "bitmaps": ("a",),
        "throttle": Throttle(1, 2),
        "tls": TlsSpec("/x", ("CN=a",)),
        "bind": "::1",
        "socket": None,
    }
    assert difference.changes(written(**more), asked(**more)) == ()


def test_nothing_is_told_of_what_is_not_there_or_not_ours() -> None:
    assert difference.changes(None, asked()) == difference.changes(written(), None) == ()
    assert difference.changes(Definition((), {"unreadable": "/u"}), asked()) == ()


def test_a_long_value_does_not_fill_the_message() -> None:
    found = difference.changes(written(), asked(description="d" * 4000))
    assert len(difference.why_anew(found)) < 300 and found[0].new == "d" * 4000


def test_a_server_that_is_not_as_declared_is_told_of() -> None:
    state = ExportState("web1", written(), ("/usr/bin/qemu-nbd", "else"), True)
    assert difference.why_started(state, asked(), "/s") == "its server runs otherwise than it is declared"
    state = replace(state, argv=asked().argv, reachable=False)
    assert difference.why_started(state, asked(), "/s") == "nobody listens at /s"
    state = replace(state, definition=replace(written(), argv=("other",)))
    assert difference.why_started(state, asked(), "/s").startswith(
        "no option differs, but what it was started with does"
    )
