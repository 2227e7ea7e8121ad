"""Which empty images serve as templates for the next."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._image.actions import CreateImage
from ansible_collections.platter.qemu.plugins.module_utils._image.build import Builder
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec


def serves(**options: t.Any) -> bool:
    asked = tuple(options.items())
    action = CreateImage("/d/a", "qcow2", 1 << 20, asked, None, (), None)
    return Builder._template_key(ImageSpec("/d/a", format="qcow2", options=asked), action) is not None


@pytest.mark.parametrize(
    ("options", "same"),
    [({}, True), ({"cluster_size": 4096}, True), ({"nocow": True}, False), ({"extent_size_hint": 1 << 20}, False)],
    ids=str,
)
def test_what_is_set_on_the_file_itself_is_not_copied_with_its_bytes(options: dict[str, t.Any], same: bool) -> None:
    assert serves(**options) is same
