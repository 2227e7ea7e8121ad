"""What qemu-img says of itself, by version."""

from __future__ import annotations

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._image.info_qemu import _supported

TAIL = "\n\nSee <https://qemu.org/contribute/report-a-bug> for how to report bugs.\nMore information at <https://qemu.org>.\n"


@pytest.mark.parametrize(
    "said",
    ("\nSupported formats: blkdebug qcow2 raw", "\nSupported image formats:\n\n  blkdebug\n  qcow2 raw"),
    ids=("7.2", "10.0"),
)
def test_the_formats_are_those_that_it_lists(said: str) -> None:
    assert _supported("usage: qemu-img" + said + TAIL) == ["blkdebug", "qcow2", "raw"]


def test_one_that_says_nothing_leaves_it_open() -> None:
    assert _supported("") is None
