"""What a holder looks like to the user; who is found is shown in tests/contract/_inspect/test_holders.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._inspect.holders import Holder, find_holders


@pytest.mark.parametrize(
    ("holder", "text"),
    [
        (Holder("process", 1234, "qemu-nbd", True), "process 1234 (qemu-nbd), open for writing"),
        (
            Holder("process", 7, "cat", False, "through /dev/loop0"),
            "process 7 (cat), open for reading, through /dev/loop0",
        ),
        (Holder("mount", None, "/srv", None, "ext4"), "mount /srv, ext4"),
    ],
)
def test_a_holder_reads_as_a_phrase(holder: Holder, text: str) -> None:
    assert str(holder) == text


def test_facts_are_plain() -> None:
    assert Holder("swap", None, "/swap", True).to_facts() == {
        "kind": "swap",
        "pid": None,
        "name": "/swap",
        "writes": True,
        "detail": "",
    }


def test_this_process_is_no_holder(tmp_path: Path) -> None:
    image = tmp_path / "a.raw"
    with image.open("wb"):
        assert find_holders([str(image)]) == {str(image): []}


def test_what_is_not_there_or_no_image_has_no_holders(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    paths = [str(tmp_path / "missing"), str(tmp_path / "fifo"), str(tmp_path), "/dev/null", "nul\0byte"]
    assert find_holders(paths) == {path: [] for path in paths}


def test_nothing_asked_nothing_answered() -> None:
    assert find_holders([]) == {}
