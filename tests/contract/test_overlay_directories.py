"""A mistyped directory of overlays would hide those that lie in the right one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import refused
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create

ENTRIES = [("images", "bad_path"), ("/none/images", "directory_missing"), ("/etc/passwd", "directory_missing")]


def asked(image: Path) -> list[dict[str, Any]]:
    """By each module that changes images: what would be done, were the directory right."""
    of_image = {"image": str(image), "format": "qcow2"}
    return [
        {"path": str(image), "state": "absent"},
        {"path": str(image), "format": "qcow2", "size": "1M"},
        {**of_image, "name": "s1", "kind": "internal"},
    ]


@pytest.mark.parametrize(("entry", "reason"), ENTRIES)
def test_a_directory_that_is_none_is_refused(tmp_path: Path, entry: str, reason: str) -> None:
    image = create(tmp_path / "image.qcow2", "qcow2", "1M")
    for options in asked(image):
        refused(reason, overlay_directories=[str(tmp_path), entry], **options)
    export = {"name": "overlays", "image": str(image), "format": "qcow2", "read_only": False}
    for check in (True, False):
        for which, options in (("nbd_export", export), ("disk_image_info", {"paths": [str(image)]})):
            result = call(which, check=check, overlay_directories=[entry], **options)
            assert (result.get("failed"), result.get("reason")) == (True, reason), result


def test_only_the_image_with_the_wrong_directory_is_refused(tmp_path: Path) -> None:
    new = [{"path": str(tmp_path / name), "format": "qcow2", "size": "1M"} for name in "ab"]
    new[0]["overlay_directories"] = ["relative"]
    result = call("disk_image", images=new, fail_fast=False)
    assert [each.get("reason") for each in result["images"]] == ["bad_path", None]
    assert (tmp_path / "b").exists() and not (tmp_path / "a").exists()
