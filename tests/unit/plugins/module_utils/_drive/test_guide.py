"""The lines of the guide are those that the filter writes."""

from __future__ import annotations

import re
import textwrap
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.platter.qemu.plugins.filter.drive_args import drive_args
from ansible_collections.platter.qemu.plugins.filter.drive_parse import drive_parse
from ansible_collections.platter.qemu.plugins.filter.libvirt_disk import libvirt_disk

GUIDE = Path(__file__).resolve().parents[5] / "docs" / "docsite" / "rst" / "from_hda_to_blockdev.rst"
BLOCK = re.compile(r"^\.\. code-block:: (yaml|shell)\n\n((?: {4}.*\n|\n)+)", re.MULTILINE)


def told() -> t.Iterator[t.Tuple[t.Any, str]]:
    """Each line of the guide with the drives that stand above it."""
    drives: t.Any = None
    for kind, text in BLOCK.findall(GUIDE.read_text()):
        block = textwrap.dedent(text).strip()
        if kind == "yaml":
            drives = yaml.safe_load(block)
        else:
            yield drives, block


@pytest.mark.parametrize(("drives", "line"), list(told()))
def test_a_line_is_what_is_written(drives: t.Any, line: str) -> None:
    written = [
        drive_args(drives, style, form=form, output="line")
        for style, form in (("blockdev", "json"), ("blockdev", "keys"), ("drive_device", "json"))
    ]
    if "if=virtio" in line:
        written.append(drive_args(drives, "drive", output="line"))
    assert line in written
    if line in written[:3]:
        assert drive_args(drive_parse(line), output="line") == written[0]


def test_the_xml_of_the_guide_is_that_of_its_first_drive() -> None:
    (shown,) = re.findall(r"^\.\. code-block:: xml\n\n((?: {4}.*\n|\n)+)", GUIDE.read_text(), re.MULTILINE)
    drives = next(told())[0]
    assert libvirt_disk(drives) == [textwrap.dedent(shown).strip() + "\n"]
    assert drive_args(drive_parse(shown)) == drive_args(drives)


def test_the_guide_has_a_line_in_each_style() -> None:
    lines = [line for _drives, line in told()]
    assert len(lines) >= 8
    assert {re.match(r"-\w+", line)[0] for line in lines if line} >= {"-drive", "-blockdev", "-object", "-device"}  # type: ignore[index]
