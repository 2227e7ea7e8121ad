"""A look at an image, as a result shows it."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.header import (
    Bitmap,
    Extent,
    Header,
    InternalSnapshot,
    Reference,
)
from ansible_collections.platter.qemu.plugins.module_utils._image.info_facts import (
    Problem,
    View,
    add_use,
    chain_facts,
    image_facts,
)
from ansible_collections.platter.qemu.plugins.module_utils._inspect.chain import ChainProblem, Link
from ansible_collections.platter.qemu.plugins.module_utils._inspect.holders import Holder

QCOW2 = Header("qcow2", 1024, cluster_size=65536, options={"compat": "1.1"})


def facts(header: Header | None = QCOW2, **more: t.Any) -> dict[str, t.Any]:
    return image_facts(View(**{"path": "/d/a", "exists": True, "kind": "file", "header": header, **more}))


def test_what_is_not_there_has_no_facts() -> None:
    assert image_facts(View("/d/a", False)) == {"path": "/d/a", "exists": False}


def test_what_cannot_be_opened_says_why_and_no_more() -> None:
    view = View("/d/a", None, problem=Problem("unreadable", "no way"))
    assert image_facts(view) == {"path": "/d/a", "exists": None, "error": "no way", "reason": "unreadable"}


def test_what_cannot_be_read_keeps_the_facts_of_its_file() -> None:
    found = facts(None, detected=("qcow2", "vpc"), allocated=512, problem=Problem("format_ambiguous", "two"))
    assert found == {
        "path": "/d/a",
        "exists": True,
        "error": "two",
        "reason": "format_ambiguous",
        "actual_size": 512,
        "detected": ["qcow2", "vpc"],
    }


def test_another_format_in_the_bytes_is_told() -> None:
    assert "detected" not in facts(detected=("qcow2",))
    assert facts(Header("raw", 1), detected=("qcow2",))["detected"] == ["qcow2"]
    assert "detected" not in facts(Header("raw", 1))


def test_the_header_outvotes_what_is_remembered() -> None:
    record = {"options": {"compat": "0.10", "preallocation": "full"}}
    assert facts(record=record)["options"] == {"compat": "1.1", "preallocation": "full"}


def test_backing_is_the_name_and_where_it_leads() -> None:
    header = Header("qcow2", 1, backing_file="../b", references=(Reference("backing_file", "../b"),))
    found = facts(header, base="/b", base_changed=True)
    assert found["backing"] == {"path": "/b", "format": None, "name": "../b"}
    assert found["base_changed"] is True
    assert found["references"] == [{"kind": "backing_file", "target": "../b"}]
    assert facts()["backing"] is None


def test_lists_of_values_are_plain() -> None:
    header = Header(
        "qcow2",
        1,
        snapshots=(InternalSnapshot("1", "one", 0, 1, 2, 3),),
        bitmaps=(Bitmap("b", 65536, ("auto",)),),
        extents=(Extent("RW", "FLAT", "x-flat", 512), Extent("RW", "", "", 1)),
        unknown_features=("new",),
        format_specific={"type": "qcow2", "data": {"compat": "1.1", "encrypt": {"key-offset": [{"a-b": 1}]}}},
    )
    found = facts(header)
    assert found["snapshots"][0]["name"] == "one" and found["snapshots"][0]["icount"] is None
    assert found["bitmaps"] == [{"name": "b", "granularity": 65536, "flags": ["auto"]}]
    assert found["extents"] == [{"access": "RW", "kind": "FLAT", "virtual_size": 512, "offset": 0, "path": "/d/x-flat"}]
    assert found["unknown_features"] == ["new"]
    assert found["format_specific"] == {"encrypt": {"key_offset": [{"a_b": 1}]}}


def test_seldom_facts_are_left_out() -> None:
    assert not {"extents", "unknown_features", "format_specific", "detected", "error"} & set(facts())


@pytest.mark.parametrize(
    ("writes", "consistent"), [((), True), ((False,), True), ((False, True), False), ((None,), False)]
)
def test_only_readers_leave_an_image_consistent(writes: tuple[bool | None, ...], consistent: bool) -> None:
    found: dict[str, t.Any] = {}
    add_use(found, [Holder("process", 1, "x", each) for each in writes])
    assert found["consistent"] is consistent
    assert [each["writes"] for each in found["in_use_by"]] == list(writes)


def test_a_chain_ends_with_its_problem() -> None:
    problem = ChainProblem("base_missing", "/b", "/b does not exist")
    links = [Link("/d/a", "qcow2", QCOW2), Link("/b", None, problem=problem), Link("nbd://h/x", "raw", kind="protocol")]
    top, missing, remote = chain_facts(links, ["/d/a", "/b", "nbd://h/x"], [512, None, None])
    assert top == {"path": "/d/a", "format": "qcow2", "virtual_size": 1024, "actual_size": 512, "problem": None}
    assert missing["problem"] == {"reason": "base_missing", "message": "/b does not exist"}
    assert remote["problem"]["reason"] == "backing_protocol"
