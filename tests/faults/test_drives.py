"""Definitions of drives under kills and in races: old or new, never in between, and no image of two VMs."""

from __future__ import annotations

import os
import secrets
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab import kills
from ansible_collections.platter.qemu.tests.lab.amounts import amount, share
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.zygote import RACE_SECONDS, Zygote

Count = t.Callable[[str, int], None]
#: all that the module writes goes through these
CALLS = ("mkdir", "write", "fchmod", "fsync", "symlink", "rename", "unlink", "unlinkat", "rmdir")
NAMES = ("definition.json", "args", "start")
RACERS = 12


@pytest.fixture
def vm(place: Path) -> t.Iterator[dict[str, t.Any]]:
    """A VM of that name is known to the host only while the test runs."""
    options = {"vm": "test-" + secrets.token_hex(4), "config": str(place / "vms" / "one")}
    (place / "vms").mkdir()
    yield options
    call("qemu_drive", state="absent", **options)


def drive(path: Path, name: str = "d") -> dict[str, t.Any]:
    return {"id": name, "image": {"path": str(path), "format": "raw"}, "device": "virtio-blk-pci"}


def task(vm: dict[str, t.Any], *drives: dict[str, t.Any], **more: t.Any) -> dict[str, t.Any]:
    return dict(vm, drives=list(drives), validate="none", purge=True, **more)


def content(config: str) -> t.Optional[list[str]]:
    """Of all files of the definition, by the names that others know; None where there is none."""
    current = os.path.join(config, "current")
    if not os.path.lexists(current):
        return None
    return [Path(current, name).read_text() for name in NAMES]


@pytest.mark.parametrize("verb", ["define", "change", "remove"])
def test_killed_at_any_step_it_is_old_or_new(
    verb: str, zygote: Zygote, place: Path, vm: dict[str, t.Any], count: Count
) -> None:
    images = [create(place / name, "raw", "1M") for name in ("a", "b")]
    old = task(vm, drive(images[0])) if verb != "define" else dict(vm, state="absent")
    new = task(vm, drive(images[1]), style="drive") if verb != "remove" else dict(vm, state="absent")

    def reset() -> t.Optional[list[str]]:
        call("qemu_drive", state="absent", **vm)
        assert call("qemu_drive", **old)["changed"] is (verb != "define")
        return content(vm["config"])

    before = reset()
    points = kills.points_of(zygote, new, place / "log", CALLS, "qemu_drive")
    after = content(vm["config"])
    assert before != after
    chosen = share(points, amount(8, len(points)), "drives " + verb)
    for point in chosen:
        reset()
        assert kills.killed_at(zygote, new, place / "log", point, "qemu_drive"), point
        assert content(vm["config"]) in (before, after), point
        result = call("qemu_drive", **new)
        assert not result.get("failed"), (point, result["msg"])
        assert content(vm["config"]) == after and call("qemu_drive", **new)["changed"] is False
        there = os.listdir(vm["config"]) if os.path.isdir(vm["config"]) else []
        generations = [name for name in there if name.startswith(".generation-")]
        assert sorted(there) == sorted(generations + (["current", *NAMES] if after else [])), point
        assert len(generations) == (after is not None)
    count("kills of a drive task", len(chosen))


def test_of_many_vms_at_once_one_has_the_image(zygote: Zygote, place: Path) -> None:
    image, tag = create(place / "image", "raw", "1M"), secrets.token_hex(4)
    vms = [{"vm": f"test-{tag}-{n}", "config": str(place / "vms" / str(n))} for n in range(RACERS)]
    tasks = [task(each, drive(image), lock_timeout=RACE_SECONDS) for each in vms]
    children = [zygote.start("qemu_drive", each, stopped=True) for each in tasks]
    try:
        for child in children:
            child.go_on()
        for child in children:
            child.wait()
        results = [child.result() for child in children]
        assert sorted(result.get("reason", "") for result in results) == [""] + ["image_claimed"] * (RACERS - 1)
    finally:
        for each in vms:
            call("qemu_drive", state="absent", **each)
