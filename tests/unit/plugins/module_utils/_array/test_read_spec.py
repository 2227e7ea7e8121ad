"""What is refused by what the task says alone."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._array.read_spec import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._core import errors

UUID = "6f9b0c1e-6f0c-4c43-9a5e-0f4b3a0d7c11"


def legs(servers: str) -> t.List[t.Dict[str, str]]:
    return [{"device": "/dev/platter/leg%d" % number, "server": name} for number, name in enumerate(servers)]


def reason(**params: t.Any) -> str:
    try:
        read_spec({"name": "data", "uuid": UUID, "legs": legs("ab"), **params})
    except errors.SpecError as exc:
        return exc.reason
    return ""


@pytest.mark.parametrize(
    ("level", "servers", "due"),
    [
        ("raid1", "ab", ""),
        ("raid1", "aa", "legs_share_server"),
        ("raid1", "aba", "legs_share_server"),
        ("raid5", "abc", ""),
        ("raid5", "abb", "legs_share_server"),
        ("raid10", "abab", ""),
        ("raid10", "abba", ""),
        ("raid10", "aabb", "legs_share_server"),
        ("raid10", "aba", "legs_share_server"),
        ("raid10", "abc", ""),
        ("raid5", "ab", "bad_option"),
        ("raid1", "a", "bad_option"),
    ],
)
def test_copies_of_the_same_data_are_on_different_servers(level: str, servers: str, due: str) -> None:
    assert reason(level=level, legs=legs(servers)) == due


def test_without_servers_nothing_is_known_of_their_fate() -> None:
    assert reason(legs=[{"device": "/dev/a"}, {"device": "/dev/b"}]) == ""


def test_the_server_of_a_leg_is_the_host_that_exports_it_if_nothing_else_is_said() -> None:
    given = [{"name": "a", "source": "nbd://store1/x"}, {"name": "b", "source": "nbd://store1:10810/y"}]
    assert reason(legs=given) == "legs_share_server"
    assert reason(legs=[given[0], {**given[1], "server": "rack2"}]) == ""
    spec = read_spec({"name": "data", "uuid": UUID, "legs": [{"name": "a"}, {"device": "/dev/vdb", "server": "x"}]})
    assert [tuple(leg) for leg in spec.legs] == [("a", "/dev/platter/a", ""), ("vdb", "/dev/vdb", "x")]


@pytest.mark.parametrize(
    ("params", "due"),
    [
        ({"name": "a/b"}, "bad_name"),
        ({"uuid": "data"}, "bad_option"),
        ({"uuid": UUID.upper()}, ""),
        ({"consistency_policy": "ppl"}, "bad_option"),
        ({"consistency_policy": "ppl", "level": "raid5", "legs": legs("abc")}, ""),
        ({"legs": [{"device": "/dev/a"}, {"device": "/dev/a"}]}, "duplicate_item"),
        ({"legs": [{"device": "/dev/a"}, {"device": "b"}]}, "bad_path"),
        ({"fill": ["c"]}, "bad_option"),
        ({"fill": ["leg1"]}, ""),
        ({"state": "absent", "legs": []}, ""),
        ({"timeout": 0}, "bad_option"),
    ],
)
def test_contradictions(params: t.Dict[str, t.Any], due: str) -> None:
    assert reason(**params) == due
