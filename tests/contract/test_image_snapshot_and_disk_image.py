"""disk_image looks through the external snapshots of an image: its base is what lies below them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.oracle import create, info, qemu_img
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, held

GOLDEN, OTHER = "golden.qcow2", "other.qcow2"


@pytest.fixture(params=["none", "rename", "symlink"])
def one(tmp_path: Path, request: pytest.FixtureRequest) -> Disk:
    """An overlay of a golden image, with two external snapshots."""
    place = tmp_path / "images"
    place.mkdir()
    for name in (GOLDEN, OTHER):
        create(place / name, "qcow2", "1M")
    link, file = place / "web1.qcow2", place / "web1-disk.qcow2"
    if request.param == "symlink":
        link.symlink_to(file)
    active = file if request.param == "symlink" else link
    four_beats(**described(active, place / GOLDEN))
    made = Disk(link, "external", request.param, active=active)
    for number, name in enumerate(("s1", "s2"), 3):
        made.write(number)
        made.take(name)
    return made


def described(path: Path, base: Path, **more: Any) -> dict[str, Any]:
    return {"path": str(path), "format": "qcow2", "backing": {"path": str(base), "format": "qcow2"}, **more}


def test_the_base_is_that_below_the_snapshots(one: Disk) -> None:
    settled(**described(one.active, one.image.parent / GOLDEN))


def test_it_grows_all_the_same(one: Disk) -> None:
    four_beats(**described(one.active, one.image.parent / GOLDEN, size="4M"))
    assert info(one.active, "qcow2")["virtual-size"] == 4 << 20
    one.settled(name="s1")


@pytest.mark.parametrize(
    "change",
    [
        {"backing": OTHER},
        {"flatten": True},
        {"options": {"cluster_size": "32K"}, "allow_rewrite": True},
    ],
    ids=str,
)
def test_another_base_is_refused_until_they_are_gone(one: Disk, change: dict[str, Any]) -> None:
    place = one.image.parent
    task: dict[str, Any] = {"path": str(one.active), "format": "qcow2", **change}
    if "backing" in change:
        task["backing"] = {"path": str(place / OTHER), "format": "qcow2"}
    result = refused("has_snapshots", **task)
    assert result["evidence"] == {"snapshots": ["s2", "s1"]}
    seen = one.now()
    for name in ("s2", "s1"):
        if one.switch == "none":
            one.image = one.active
        one.beats(name=name, state="streamed")
    task["path"] = str(one.active)
    four_beats(**task)
    assert held(one.active) == seen


def test_a_base_of_another_disk_that_has_snapshots_is_a_base(one: Disk) -> None:
    """What is built on a snapshot is no part of that disk."""
    point = one.points()["s2"]
    assert point
    other = point.with_name("web2.qcow2")
    four_beats(**described(other, point))
    settled(**described(other, point))
    seen = held(other)
    four_beats(path=str(other), format="qcow2", flatten=True)
    assert held(other) == seen
    qemu_img("check", "-q", other)
