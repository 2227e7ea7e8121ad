"""Lines as people write them are read, said as facts, written anew in every style that has words for them, and read again."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._drive import facts, parse_arguments, read_spec, styles
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import DrivesSpec, Node
from ansible_collections.platter.qemu.tests.lab.drive_corpus import Line, lines

LINES = lines()


def read(text: str) -> DrivesSpec:
    return parse_arguments.parse(parse_arguments.words(text)).spec


def with_formats(spec: DrivesSpec) -> DrivesSpec:
    """As a user would say them where the line does not: raw."""
    return replace(
        spec,
        drives=tuple(
            replace(each, backend=replace(each.backend, driver=each.backend.driver or "raw")) if each.backend else each
            for each in spec.drives
        ),
    )


def test_there_are_many_of_them() -> None:
    assert len(LINES) >= 150
    assert len({line.text for line in LINES}) == len(LINES)


@pytest.mark.parametrize("line", [line for line in LINES if not line.reason], ids=lambda line: line.text[:60])
def test_a_line_is_the_same_in_every_style(line: Line) -> None:
    spec = read_spec.read(facts.of_spec(with_formats(read(line.text))))
    assert spec.drives
    written = {}
    for style in ("blockdev", "drive_device", "drive"):
        try:
            written[style] = styles.render(spec, style).words
        except errors.SpecError as exc:
            assert exc.reason == "style_cannot"
    assert "blockdev" in written
    for words in written.values():
        again = parse_arguments.parse(words, spec.machine).spec
        assert styles.lost_in(spec, again) == []


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.text[:60])
def test_its_facts_say_all_of_it(line: Line) -> None:
    spec = read(line.text)
    again = read_spec.read(facts.of_spec(spec))
    assert styles.lost_in(spec, again) == []


@pytest.mark.parametrize("line", [line for line in LINES if line.reason], ids=lambda line: line.text[:60])
def test_a_line_that_qemu_would_not_take_is_refused(line: Line) -> None:
    with pytest.raises(errors.SpecError) as caught:
        styles.render(with_formats(read(line.text)), "blockdev")
    assert caught.value.reason == line.reason


def test_what_a_line_leaves_to_qemu_is_told() -> None:
    guessed = [line for line in LINES if any(_guessed(each.backend) for each in read(line.text).drives)]
    told = [line for line in LINES if "not given" in str(parse_arguments.parse(parse_arguments.words(line.text)).notes)]
    assert guessed == told
    assert len(guessed) > 50


def _guessed(node: t.Optional[Node]) -> bool:
    return node is not None and not node.driver
