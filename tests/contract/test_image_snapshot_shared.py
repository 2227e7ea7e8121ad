"""Snapshots that something else is built on: clones of templates, what was left by going back, more layers than a record
has room for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._snapshot import layer_records, stream_records
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.merge_actions import StreamBase
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import Amount, Point
from ansible_collections.platter.qemu.plugins.module_utils._tools import records
from ansible_collections.platter.qemu.tests.lab.led import NOBODY
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, backing_name, disk, held


def with_clone(tmp_path: Path) -> tuple[Disk, Disk]:
    """A template with the snapshot golden, which its own disk is built on, and a clone, which has a snapshot of its own."""
    template = disk(tmp_path, "external")
    template.take("golden")
    (tmp_path / "vm").mkdir()
    image = create(tmp_path / "vm" / "vm.qcow2", "qcow2", "", "", "-b", template.image, "-F", "qcow2")
    clone = Disk(image, "external", "rename", active=image)
    clone.write(5)
    clone.take("own")
    clone.write(6)
    return template, clone


def belongs_to_nobody_else(template: Disk, clone: Disk) -> None:
    for each in (clone, template):
        each.points_now()
    template.sound("golden")
    assert clone.points() == {} and clone.result["snapshot"]["layers"] == [str(clone.active)]
    pruned = {"state": "pruned", "retention": {"keep_last": 1}}
    clone.take("next")
    clone.settled(**pruned)
    template.settled(name="golden")
    template.beats(name="golden", state="absent")


def test_a_clone_that_has_lost_its_lowest_snapshot_is_no_layer_of_its_template(tmp_path: Path) -> None:
    template, clone = with_clone(tmp_path)
    remembered = records.read_record(str(template.image))
    seen = clone.now()
    clone.beats(name="own", state="streamed")
    assert (clone.now(), backing_name(clone.active)) == (seen, str(template.image))
    assert records.read_record(str(template.image)) == remembered
    belongs_to_nobody_else(template, clone)


def test_nor_is_it_one_when_the_run_was_killed_that_took_it(tmp_path: Path) -> None:
    """The data is in the layer above, the header is written, and nothing is noted of it."""
    template, clone = with_clone(tmp_path)
    point, new_base = clone.points()["own"], str(template.image)
    step = StreamBase("", Point("own"), str(point), str(clone.active), new_base, "qcow2", Amount(), (), "", ())
    stream_records.begin_stream(step)
    qemu_img("rebase", "-q", "-f", "qcow2", "-b", new_base, "-F", "qcow2", clone.active)
    assert clone.points_now() == {"own": point}
    for more in ({"name": "other"}, {"name": "own", "state": "reverted"}):
        clone.refuses("merge_unfinished", **more)
    seen = clone.now()
    clone.beats(name="own", state="absent")
    assert clone.now() == seen
    belongs_to_nobody_else(template, clone)


@pytest.mark.parametrize("on_it", ["a clone", "what was left"])
def test_a_file_that_only_stays_for_what_is_built_on_it_is_no_disk(tmp_path: Path, on_it: str) -> None:
    one = disk(tmp_path, "external")
    for number, name in enumerate(("s1", "s2"), 3):
        one.take(name)
        one.write(number)
    stays, left = one.points()["s2"], {}
    if on_it == "a clone":
        clone = create(tmp_path / "images" / "clone.qcow2", "qcow2", "", "", "-b", stays, "-F", "qcow2")
        built = held(clone)
    else:
        one.then["s2.undone"] = one.now()
        one.beats(name="s2", state="reverted")
        left = {"s2.undone": one.points()["s2.undone"]}
    seen = one.now()
    one.beats(name="s2", state="absent")
    assert (list(one.points()), one.now()) == (["s1", *left], seen)
    one.take("s3")
    one.sound("s1", *left, "s3")
    if on_it == "a clone":
        assert held(clone) == built
    one.image = Path(str(stays))
    one.refuses("active_unknown", name="s4")


def reverted(one: Disk, times: int) -> list[str]:
    for number in range(times):
        one.write(number + 10)
        result = call("image_snapshot", **one.task(name="s1", state="reverted"))
        assert result["changed"] and not result.get("failed"), result
    return [each["name"] for each in result["snapshot"]["snapshots"]]


@pytest.mark.parametrize("where", ["beside", "elsewhere"])
def test_a_file_remembers_no_more_overlays_than_it_has_room_for(tmp_path: Path, where: str) -> None:
    """Going back again and again leaves one each time. All are found, also when the file belongs to root by now."""
    one = disk(tmp_path, "external")
    os.chown(one.image, NOBODY, NOBODY)
    more: dict[str, Any] = {}
    if where == "elsewhere":
        (tmp_path / "elsewhere").mkdir()
        more = {"overlay": str(tmp_path / "elsewhere" / "layer.qcow2")}
    one.beats(name="s1", **more)
    names = reverted(one, 8)
    assert len(layer_records.overlays_in(layer_records.snapshot_of(str(one.image)))) <= 5
    os.chown(one.image, 0, 0)
    assert list(one.points_now()) == names and len(names) == 9
