"""What is said of a source that QEMU does not open."""

from __future__ import annotations

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._image.read_spec import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._image.source import closed_source

SPEC = read_spec({"path": "/d/image", "format": "raw", "source": {"path": "/d/source", "format": "raw"}})


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (errors.ToolTimeoutError(["qemu-img", "check"], "it has not come to its end for 600 s"), "tool_timeout"),
        (errors.ToolError(["qemu-img", "check"], 1, "", "Image is corrupt"), "source_damaged"),
        (errors.ToolError(["qemu-img", "check"], 1, "", "Invalid password, cannot unlock"), "wrong_secret"),
    ],
    ids=["hangs", "damaged", "closed"],
)
def test_a_source_that_takes_too_long_is_not_called_damaged(failure: errors.ToolError, reason: str) -> None:
    assert closed_source(SPEC, failure).facts["reason"] == reason
