"""Snapshots of a guest that runs and writes: every layer and every point is a moment of its disk, and nothing is lost."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.platter.qemu.tests.lab.guest import check
from ansible_collections.platter.qemu.tests.lab.load import Writer, pauses, writing
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create, info
from ansible_collections.platter.qemu.tests.lab.plug import plugged
from ansible_collections.platter.qemu.tests.lab.sequence import Layout, written_up_to
from ansible_collections.platter.qemu.tests.lab.vm import Disk, Guest

pytestmark = pytest.mark.xdist_group("guest")
LAYOUT = Layout(slots=64)
#: milliseconds that the guest may stand still longer than it does by itself; and how many snapshots may show it
MOST_PAUSE, TRIES = 200, 12


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return create(tmp_path / "disk.qcow2", "qcow2", LAYOUT.size)


def snapshot(guest: Guest, image: Path, **options: Any) -> dict[str, Any]:
    """The task, which must succeed, and change nothing when it is run again."""
    task = {"image": str(image), "format": "qcow2", "qmp_socket": str(guest.qmp), **options}
    expected = call("image_snapshot", check=True, **task)
    result = call("image_snapshot", **task)
    assert not result.get("failed") and result["changed"], result.get("msg", result)
    assert expected["changed"] and steps(expected) == steps(result), (expected, result)
    for checking in (False, True):
        again = call("image_snapshot", check=checking, **task)
        assert not again.get("failed") and not again["changed"], again
    return result


def steps(result: dict[str, Any]) -> list[str]:
    """The actions without how many bytes they copy: the guest goes on writing."""
    return [re.sub(r"[\d.]+ ([KMG]iB|bytes)", "some bytes", action) for action in result["actions"]]


def taken(guest: Guest, writer: Writer, image: Path, **options: Any) -> range:
    """Take a snapshot beside the writer; the numbers one of which is the last that it can hold."""
    before = writer.goes_on()
    snapshot(guest, image, **options)
    # one more may be on the disk than the writer knows of
    last = writer.written() + 1
    writer.goes_on()
    return range(before, last + 1)


def sound(path: Path) -> None:
    """qemu-img finds nothing to say."""
    found = check(path, "qcow2")
    assert not found.get("corruptions") and not found.get("leaks"), found


def holds(path: Path, numbers: range, *options: str) -> None:
    """The image is the disk of one moment between the two."""
    assert written_up_to(path, "qcow2", LAYOUT, *options) in numbers


def all_of(writer: Writer) -> range:
    return range(writer.last, writer.last + 2)


@pytest.mark.parametrize("legacy", (False, True))
@pytest.mark.parametrize("switch", ("none", "symlink"))
def test_external(guest: Guest, image: Path, switch: str, legacy: bool) -> None:
    name = image
    if switch == "symlink":
        name = image.with_name("current.qcow2")
        name.symlink_to(image.name)
    options = {"kind": "external", "switch": switch}
    with plugged(guest, Disk(image, legacy=legacy)) as plugged_in, writing(guest, LAYOUT, plugged_in[0]) as writer:
        first = taken(guest, writer, name, name="one", **options)
        second = taken(guest, writer, name, name="two", **options)
        writer.stop()
    layers = sorted(image.parent.glob("*.qcow2"))
    active = max((path for path in layers if not path.is_symlink()), key=depth)
    middle = Path(info(active, "qcow2")["full-backing-filename"])
    assert Path(info(middle, "qcow2")["full-backing-filename"]) == image
    holds(image, first)
    holds(middle, second)
    holds(active, all_of(writer))
    if switch == "symlink":
        assert name.resolve() == active
    for path in (image, middle, active):
        sound(path)


def depth(path: Path) -> int:
    """How many files are below it."""
    below = info(path, "qcow2").get("full-backing-filename")
    return 1 + depth(Path(below)) if below else 0


@pytest.mark.parametrize("legacy", (False, True))
def test_internal(guest: Guest, image: Path, legacy: bool) -> None:
    with plugged(guest, Disk(image, legacy=legacy)) as plugged_in, writing(guest, LAYOUT, plugged_in[0]) as writer:
        first = taken(guest, writer, image, name="one")
        second = taken(guest, writer, image, name="two")
        third = taken(guest, writer, image, name="three")
        snapshot(guest, image, name="two", state="absent")
        writer.stop()
    assert [each["name"] for each in info(image, "qcow2")["snapshots"]] == ["one", "three"]
    assert second
    holds(image, first, "-l", "snapshot.name=one")
    holds(image, third, "-l", "snapshot.name=three")
    holds(image, all_of(writer))
    sound(image)


@pytest.mark.parametrize("kind", ("internal", "external"))
def test_two_disks_at_the_same_moment(guest: Guest, image: Path, tmp_path: Path, kind: str) -> None:
    images = [image, create(tmp_path / "other.qcow2", "qcow2", LAYOUT.size)]
    disks = [Disk(path, f"disk{number}") for number, path in enumerate(images)]
    task = {"name": "both", "kind": kind, "qmp_socket": str(guest.qmp)}
    with plugged(guest, *disks) as names, writing(guest, LAYOUT, *names) as writer:
        writer.goes_on()
        result = call("image_snapshot", **task, snapshots=[{"image": str(each), "format": "qcow2"} for each in images])
        assert not result.get("failed") and result["changed"], result.get("msg", result)
        writer.goes_on()
    options = ("-l", "snapshot.name=both") if kind == "internal" else ()
    first, second = (written_up_to(each, "qcow2", LAYOUT, *options) for each in images)
    assert 0 < second <= first <= second + 1 <= writer.last


@pytest.mark.parametrize("legacy", (False, True))
@pytest.mark.parametrize("point", ("one", "two"), ids=("middle", "active"))
@pytest.mark.parametrize("state", ("committed", "streamed"))
def test_merges_beside_the_writer(guest: Guest, image: Path, state: str, point: str, legacy: bool) -> None:
    with plugged(guest, Disk(image, legacy=legacy)) as plugged_in, writing(guest, LAYOUT, plugged_in[0]) as writer:
        moments = {name: taken(guest, writer, image, kind="external", name=name) for name in ("one", "two")}
        before = writer.goes_on()
        # a stream takes the point's file away: the task names one that stays
        named = image if state == "committed" else image.with_name("disk.two.qcow2")
        result = snapshot(guest, named, kind="external", name=point, state=state)
        assert writer.goes_on() > before
        writer.stop()
        active = Path(result["snapshot"]["active"])
    files = list(image.parent.glob("*.qcow2"))
    assert len(files) == 2, files
    holds(active, all_of(writer))
    left = [path for path in files if path != active]
    holds(left[0], moments["two" if point == "one" else "one"])
    for path in files:
        sound(path)


@pytest.mark.parametrize("kind", ("internal", "external"))
def test_the_guest_goes_on(
    guest: Guest, image: Path, kind: str, record_property: Callable[[str, object], None]
) -> None:
    """Of some snapshots the least pause counts: what a snapshot itself costs is in each, what a busy machine adds is not."""
    task = {"image": str(image), "format": "qcow2", "kind": kind}
    with plugged(guest, Disk(image)) as plugged_in, writing(guest, LAYOUT, plugged_in[0]) as writer:
        with pauses(guest) as usual:
            writer.goes_on()
            prepared("image_snapshot", **task, name="one", check=True, qmp_socket=str(guest.qmp))
        added: list[int] = []
        while len(added) < TRIES and min(added, default=MOST_PAUSE + 1) > MOST_PAUSE:
            with pauses(guest) as seen:
                result = call("image_snapshot", **task, name=f"s{len(added)}", qmp_socket=str(guest.qmp))
            assert result["changed"], result
            assert seen.stopped == 0
            added.append(seen.longest - usual.longest)
            task["image"] = result["snapshot"]["active"]
    record_property("milliseconds that the guest stood still longer than by itself", added)
    assert min(added) <= MOST_PAUSE, (added, usual)
