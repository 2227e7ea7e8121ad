"""JMESPath over image facts: what comes in, what comes out, and what is said when it cannot be."""

from __future__ import annotations

import re
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.platter.qemu.plugins.filter import select_images as plugin
from ansible_collections.platter.qemu.plugins.filter.select_images import FilterModule, select_images

GIB = 1 << 30
GOLDEN = {"path": "/i/golden.qcow2", "format": "qcow2", "virtual_size": 10 * GIB, "backing": None, "in_use_by": []}
WEB = {
    "path": "/i/web.qcow2",
    "format": "qcow2",
    "virtual_size": 200 * GIB,
    "backing": {"path": "/i/golden.qcow2", "format": "qcow2"},
    "backing_chain": [{"path": "/i/web.qcow2"}, {"path": "/i/golden.qcow2"}],
    "in_use_by": [{"kind": "process", "name": "qemu-nbd"}],
    "actual_size": 5,
}
_MISSING = {"path": "/i/lost.qed", "problem": {"reason": "base_missing", "message": "it does not exist"}}
ORPHAN = {
    "path": "/i/orphan.qed",
    "format": "qed",
    "backing_chain": [{"path": "/i/orphan.qed", "problem": None}, _MISSING],
}
GONE = {"path": "/i/gone", "exists": False}
IMAGES = [GOLDEN, WEB, ORPHAN, GONE]


class TaggedText(str):
    """As ansible-core's own strings: not exactly str."""


class TaggedNumber(int):
    """As ansible-core's own numbers."""


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("[?virtual_size > `107374182400`].path", ["/i/web.qcow2"]),
        ("[?backing.path == '/i/golden.qcow2'].path", ["/i/web.qcow2"]),
        ("[?in_use_by].{path: path, by: in_use_by[].name}", [{"path": "/i/web.qcow2", "by": ["qemu-nbd"]}]),
        ("[?backing_chain[1:] | [?path == '/i/golden.qcow2']].path", ["/i/web.qcow2"]),
        ("sum([?format == 'qcow2'].actual_size)", 5),
        ("[?contains(path, 'web')] | [0].format", "qcow2"),
        ("[?error]", []),
        ("[-1]", GONE),
    ],
)
def test_an_expression_sees_the_list(expression: str, found: t.Any) -> None:
    assert select_images(IMAGES, expression) == found


@pytest.mark.parametrize(
    "data",
    [IMAGES, tuple(IMAGES), {"images": IMAGES, "changed": False}, {"results": [{"images": IMAGES}, {"skipped": True}]}],
    ids=["list", "tuple", "result", "loop"],
)
def test_a_result_is_as_good_as_its_list(data: t.Any) -> None:
    assert select_images(data, "[].path") == ["/i/golden.qcow2", "/i/web.qcow2", "/i/orphan.qed", "/i/gone"]


def test_text_and_numbers_of_ansible_are_text_and_numbers_for_jmespath() -> None:
    images = [{TaggedText("path"): TaggedText("/i/web"), "actual_size": TaggedNumber(7), "ratio": 0.5, "dirty": False}]
    found = select_images(
        images, TaggedText("[?starts_with(path, '/i') && !dirty].[path, to_string(actual_size), ratio]")
    )
    assert found == [["/i/web", "7", 0.5]]
    assert found[0][0].__class__ is str


@pytest.mark.parametrize("expression", ["[?", "nosuch(@)", "length(`5`)"])
def test_an_expression_that_is_wrong_is_named(expression: str) -> None:
    with pytest.raises(AnsibleFilterError, match="cannot be evaluated") as caught:
        select_images(IMAGES, expression)
    assert repr(expression) in str(caught.value)


@pytest.mark.parametrize(("data", "said"), [("text", "type str"), ({"stat": 1}, "the keys stat"), (None, "NoneType")])
def test_what_is_no_list_of_images_is_refused(data: t.Any, said: str) -> None:
    with pytest.raises(AnsibleFilterError, match=said):
        select_images(data, "[]")


@pytest.mark.parametrize("expression", [{"a": 1}, None, 5, ["[]"]])
def test_an_expression_that_is_no_text_is_refused(expression: t.Any) -> None:
    with pytest.raises(AnsibleFilterError, match="must be text"):
        select_images(IMAGES, expression)


#: what each expression of the examples finds in IMAGES, told by a piece of it
DOCUMENTED = {
    "`107374182400`": ["/i/web.qcow2"],
    "[?backing.path ==": ["/i/web.qcow2"],
    "[?backing_chain[1:]": [{"path": "/i/web.qcow2", "bytes": 5}],
    "base_missing": [{"path": "/i/orphan.qed", "problem": "it does not exist"}],
    "[?in_use_by]": [{"path": "/i/web.qcow2", "by": ["qemu-nbd"]}],
    "sum(": 5,
    "[?error]": [],
}


@pytest.mark.parametrize("piece", DOCUMENTED)
def test_the_examples_find_what_they_say(piece: str) -> None:
    examples = yaml.safe_load(Path(plugin.__file__).with_suffix(".yml").read_text(encoding="utf-8"))["EXAMPLES"]
    given = re.findall(r"select_images\('(.*?)'\)|wanted: \"(.*)\"", examples)
    (expression,) = [each for pair in given for each in pair if piece in each]
    assert len(given) == len(DOCUMENTED)
    assert select_images(IMAGES, expression.replace("/srv/images/", "/i/")) == DOCUMENTED[piece]


def test_without_jmespath_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jmespath", None)
    with pytest.raises(AnsibleFilterError, match="pip install jmespath"):
        select_images(IMAGES, "[]")


def test_ansible_finds_the_filter_and_its_documentation() -> None:
    documented = yaml.safe_load(Path(plugin.__file__).with_suffix(".yml").read_text(encoding="utf-8"))
    assert FilterModule().filters() == {documented["DOCUMENTATION"]["name"]: select_images}
