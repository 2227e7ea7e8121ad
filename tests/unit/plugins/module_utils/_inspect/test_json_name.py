"""What a C(json:) name of a file says, as QEMU writes it."""

from __future__ import annotations

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._inspect import json_name


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ('json:{"driver":"file","filename":"/a"}', "/a"),
        ('json:{"driver":"qcow2","file":{"driver":"file","filename":"/a"}}', "/a"),
        (
            'json:{"backing":{"driver":"file","filename":"/b"},"driver":"qcow2","file":{"driver":"file","filename":"/a"}}',
            "/a",
        ),
        ('json:{"driver":"raw","file":{"driver":"raw","file":{"driver":"host_device","filename":"/dev/a"}}}', "/dev/a"),
        ('json:{"driver":"qcow2","file":{"driver":"nbd","export":"a"}}', ""),
        ('json:{"driver":"raw","file":{"driver":"nbd","filename":"/a"}}', ""),
        ("json:{", ""),
        ("json:7", ""),
        ("json:" + "[" * 100000, ""),
        ("/a", ""),
    ],
)
def test_the_file_of_a_node_is_found_in_its_description(name: str, file: str) -> None:
    assert json_name.file_of_node(name) == file
