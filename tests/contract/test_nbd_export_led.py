"""A server of root's shows its clients no file that who can write to the image could not open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator

import pytest

from ansible_collections.platter.qemu.tests.lab import exports
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused
from ansible_collections.platter.qemu.tests.lab.led import NOBODY, led, place_of_roots, with_data_file

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def place() -> Iterator[Path]:
    with place_of_roots() as found:
        yield found


@pytest.fixture
def name() -> Iterator[str]:
    name = exports.new_name()
    with exports.cleaned(name):
        yield name


def test_a_base_that_is_served_is_readable_by_those_who_chose_it(name: str, place: Path) -> None:
    task = {"name": name, "image": str(led(place / "image", place / "secret")), "format": "qcow2", "read_only": True}
    result = refused("image_references_file", **task)
    assert (result["evidence"]["file"], f"{place}/image names" in result["msg"]) == (str(place / "secret"), True)
    (place / "secret").chmod(0o644)
    four_beats(**task, unpredictable=["virtual_size"])


def test_a_data_file_that_is_served_for_writing_is_writable_by_those_who_chose_it(name: str, place: Path) -> None:
    task: dict[str, object] = {
        "name": name,
        "image": str(with_data_file(place / "image", place / "secret")),
        "format": "qcow2",
    }
    task["read_only"] = False
    (place / "secret").chmod(0o644)
    assert refused("image_references_file", **task)["evidence"]["kind"] == "data_file"
    os.chown(place / "secret", NOBODY, 0)
    four_beats(**task, unpredictable=["virtual_size"])
