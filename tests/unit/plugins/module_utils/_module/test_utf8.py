"""A result that Ansible takes, whatever names there are."""

from __future__ import annotations

import json

from ansible_collections.platter.qemu.plugins.module_utils._module.utf8 import in_utf8


def test_what_is_good_is_not_touched() -> None:
    result = {"images": [{"path": "/ä/日本", "size": 1, "of": None}]}
    assert in_utf8(result) is result


def test_bytes_that_are_not_utf_8_are_replaced_wherever_they_are() -> None:
    result = in_utf8({"images": [{"path": "/\udcff", "of": ("ü\udcfe",)}], "n\udcff": 1, "size": 2.5, "none": None})
    assert result == {"images": [{"path": "/\ufffd", "of": ["ü\ufffd"]}], "n\ufffd": 1, "size": 2.5, "none": None}
    json.dumps(result, ensure_ascii=False).encode()
