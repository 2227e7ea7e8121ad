"""Layers that others can write to lead root's QEMU to no file that they could not open themselves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator

import pytest

from ansible_collections.platter.qemu.tests.lab.guest import KIB, qemu_io
from ansible_collections.platter.qemu.tests.lab.led import NOBODY, SECRET, given, led, place_of_roots, with_data_file
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def place() -> Iterator[Path]:
    with place_of_roots() as found:
        yield found


def with_snapshot(image: Path) -> Disk:
    one = Disk(image, "external", "rename", active=image)
    one.beats(name="s1")
    qemu_io(image, "qcow2", "write -q -P 7 0 64k")
    return one


@pytest.mark.parametrize("state", ["committed", "absent"])
def test_a_merge_writes_to_no_data_file_that_is_closed_to_those_who_chose_it(place: Path, state: str) -> None:
    (place / "secret").chmod(0o644)
    one = with_snapshot(with_data_file(place / "image.qcow2", place / "secret"))
    result = one.refuses("image_references_file", name="s1", state=state)
    assert result["evidence"] == {
        "image": str(place / "image.s1.qcow2"),
        "kind": "data_file",
        "file": str(place / "secret"),
        "writer": "user 65534 (nobody)",
    }
    assert (place / "secret").read_bytes() == SECRET
    os.chown(place / "secret", NOBODY, 0)
    one.beats(name="s1", state=state)
    assert (place / "secret").read_bytes()[: 64 * KIB] == b"\7" * 64 * KIB


@pytest.mark.parametrize("state", ["committed", "streamed"])
def test_a_merge_copies_from_no_file_that_is_closed_to_those_who_chose_it(place: Path, state: str) -> None:
    """A cluster of which a part is written is filled up with what is below."""
    one = with_snapshot(led(place / "image.qcow2", place / "secret"))
    assert one.refuses("image_references_file", name="s1", state=state)["evidence"]["kind"] == "backing_file"
    (place / "secret").chmod(0o644)
    one.beats(name="s1", state=state)


def test_a_merge_follows_no_name_that_its_user_can_lead_elsewhere(place: Path) -> None:
    home = place / "home"
    home.mkdir()
    (home / "data").write_bytes(SECRET)
    given(home / "data")
    given(home, 0o755)
    one = with_snapshot(with_data_file(place / "image.qcow2", home / "data"))
    result = one.refuses("unsafe_directory", name="s1", state="committed")
    assert result["evidence"] == {"directory": str(home), "owner": NOBODY}


def test_a_branch_is_looked_at_before_it_is_merged(place: Path) -> None:
    """It is in no chain that the disk of now has; QEMU would wait at a FIFO for ever."""
    given(create(place / "image.qcow2", "qcow2", "1M"))
    one = with_snapshot(place / "image.qcow2")
    one.beats(name="s2")
    qemu_io(one.active, "qcow2", "write -q -P 8 0 64k")
    one.beats(name="s1", state="reverted")
    base, left = (one.points()[name] for name in ("s2", "s1.undone"))
    assert left
    record = os.getxattr(left, "user.platter.qemu")
    left.unlink()
    qemu_img(
        "create", "-q", "-f", "qcow2", "-u", "-b", base, "-F", "qcow2", "-o", f"data_file={place / 'data'}", left, "1M"
    )
    (place / "data").unlink()
    os.mkfifo(place / "data")
    os.setxattr(left, "user.platter.qemu", record)
    given(left)
    one.refuses("not_a_file", name="s2", state="absent", allow_altered=True)


def test_an_image_that_grows_as_it_is_reverted_copies_nothing_either(place: Path) -> None:
    image = led(place / "image.qcow2", place / "secret", "900K")
    one = Disk(image, active=image)
    for name, size in (("large", "1000K"), ("small", "900K")):
        qemu_img("resize", "-q", "-f", "qcow2", "--shrink", image, size)
        qemu_img("snapshot", "-c", name, image)
    one.refuses("image_references_file", name="large", state="reverted", save=False)
    (place / "secret").chmod(0o644)
    one.beats(name="large", state="reverted", save=False)


def test_how_much_there_is_to_merge_is_asked_of_no_closed_file(place: Path) -> None:
    one = with_snapshot(with_data_file(place / "image.qcow2", place / "secret"))
    result = call("image_snapshot", check=True, **one.task(name="nothing", state="absent"))
    shown = [" ".join(command) for command in result["commands"] if "map" in command]
    assert shown and not any("image.s1" in command for command in shown), shown
