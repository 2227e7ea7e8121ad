"""What qemu-nbd --list prints is read line by line; other lines of other versions do not count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import ToolOutputError
from ansible_collections.platter.qemu.plugins.module_utils._core.nbd_protocol import BlockSize, Export
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_nbd_list import parse

PRINTED = """exports available: 2
 export: 'disk'
  description: The disk of «web1»
  size:  67108864
  flags: 0x58f ( readonly flush fua df multi cache )
  min block: 1
  opt block: 4096
  max block: 33554432
  transaction size: 64-bit
  available meta contexts: 2
   qemu:dirty-bitmap:b0
   base:allocation
 export: ''
  size:  1703968
  flags: 0x587 ( readonly flush df multi cache )
"""


def test_what_it_prints() -> None:
    assert parse(PRINTED) == [
        (
            Export("disk", 64 << 20, 0x58F, BlockSize(1, 4096, 32 << 20), description="The disk of «web1»"),
            ("base:allocation", "qemu:dirty-bitmap:b0"),
        ),
        (Export("", 1703968, 0x587), ()),
    ]
    assert parse("exports available: 0\n") == []


def test_an_export_without_a_size_is_no_answer() -> None:
    with pytest.raises(ToolOutputError):
        parse("exports available: 1\n export: 'disk'\n")


@given(st.lists(st.sampled_from(PRINTED.splitlines()), max_size=20), st.text(max_size=20))
def test_any_lines_are_an_answer_or_none(lines: list[str], more: str) -> None:
    try:
        found = parse("\n".join([*lines, more]))
    except ToolOutputError:
        return
    assert len(found) == sum(line.startswith(" export: '") for line in "\n".join([*lines, more]).split("\n"))
