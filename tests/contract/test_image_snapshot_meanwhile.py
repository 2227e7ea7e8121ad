"""What somebody writes while layers are merged, left or removed: it is kept, or the one who writes is refused."""

from __future__ import annotations

import contextlib
import functools
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._snapshot.engine import SnapshotEngine
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.layers import LayerEditor
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.read_spec import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._tools.process import Runner
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg
from ansible_collections.platter.qemu.tests.lab.between import AFTER, QEMU_IMG, between, undressed
from ansible_collections.platter.qemu.tests.lab.guest import KIB, extents, qemu_io, shows
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, backing_name, disk, held

LATE = (0x88, 256 * KIB, 64 * KIB)
WRITE = 'qemu-io -f qcow2 -c "write -P 0x88 256k 64k" {path} >> {log} 2>&1'


def refused_between(one: Disk, path: Path, **options: Any) -> None:
    item = between(lambda: qemu_io(path, "qcow2", f"write -q -P {LATE[0]} {LATE[1]} {LATE[2]}"), **one.task(**options))
    assert item.error and item.error.facts["reason"] == "changed_meanwhile", item.error
    assert (item.done, path.exists()) == (0, True)
    shows(path, "qcow2", (LATE,))


@pytest.mark.parametrize("switch", ["none", "symlink", "rename"])
def test_a_vm_does_not_start_from_an_overlay_that_has_been_merged(tmp_path: Path, switch: str, instead: Any) -> None:
    one = disk(tmp_path, "external", switch)
    one.take("s1")
    one.write(3)
    log = tmp_path / "log"
    instead(AFTER.format(verb="commit", what=WRITE.format(path=one.active, log=log)))
    seen = one.now()
    assert call("image_snapshot", **one.task(name="s1", state="committed"))["changed"]
    assert "Failed to get" in log.read_text()
    one.points_now()
    one.active = Path(one.result["snapshot"]["active"])
    assert one.now() == seen


@pytest.mark.parametrize("times", [1, 9])
def test_what_a_program_writes_into_an_overlay_is_merged_too_or_the_overlay_stays(
    tmp_path: Path, times: int, instead: Any
) -> None:
    """One that does not ask for QEMU's lock."""
    one = disk(tmp_path, "external", "rename")
    one.take("s1")
    one.write(3)
    at = next(extent["offset"] for extent in extents(one.active, "qcow2") if extent["depth"] == 0)
    left = tmp_path / "left"
    left.write_text("x" * times)
    write = (
        f"head -c 65536 /dev/zero | tr '\\0' 'D' | dd of={one.active} bs=1k seek={at // 1024} conv=notrunc 2>/dev/null"
    )
    again = f'if [ -s {left} ]; then {write}; cut -c2- {left} | tr -d "\\n" > {left}.new; mv {left}.new {left}; fi'
    instead(AFTER.format(verb="commit", what=again))
    result = call("image_snapshot", **one.task(name="s1", state="committed"))
    if times > 1:
        assert (result["reason"], result["changed"]) == ("changed_meanwhile", True), result
        left.write_text("")
        result = call("image_snapshot", **one.task(name="s1", state="committed"))
    assert result["changed"] and not result.get("failed"), result
    shows(one.image, "qcow2", ((ord("D"), 0, 64 * KIB),))
    assert [path.name for path in one.image.parent.iterdir()] == [one.image.name]


def test_a_vm_does_not_start_from_a_point_that_has_been_streamed(tmp_path: Path, instead: Any) -> None:
    one = disk(tmp_path, "external", "rename")
    one.take("s1")
    one.write(3)
    log = tmp_path / "log"
    instead(AFTER.format(verb="rebase", what=WRITE.format(path=one.points()["s1"], log=log)))
    assert call("image_snapshot", **one.task(name="s1", state="streamed"))["changed"]
    assert 'Failed to get "write" lock' in log.read_text()


# --- what is built on them meanwhile


def clone_on(base: object, path: Path) -> str:
    """A line of shell that makes a clone, as a user does."""
    return f'"$real" create -q -f qcow2 -b {base} -F qcow2 {path} > /dev/null'


def test_a_clone_that_was_made_while_a_point_was_streamed_keeps_its_base(tmp_path: Path, instead: Any) -> None:
    one = disk(tmp_path, "external", "rename")
    one.take("s1")
    one.write(3)
    point, clone, seen = one.points()["s1"], one.image.parent / "clone.qcow2", one.now()
    instead(AFTER.format(verb="rebase", what=clone_on(point, clone)))
    result = call("image_snapshot", **one.task(name="s1", state="streamed"))
    assert result["changed"] and f"{point} stays" in str(result["warnings"]), result
    assert (held(clone), one.now(), backing_name(one.image)) == (one.then["s1"], seen, None)
    assert one.points_now() == {}


def test_a_point_that_a_vm_reads_stays_and_goes_later(tmp_path: Path) -> None:
    """The clone that the VM was started with lies where nobody looks."""
    one = disk(tmp_path, "external", "rename")
    one.take("s1")
    one.write(3)
    point, clone = one.points()["s1"], tmp_path / "elsewhere" / "clone.qcow2"
    clone.parent.mkdir()
    create(clone, "qcow2", "", "", "-b", point, "-F", "qcow2")
    with contextlib.ExitStack() as running:
        item = between(lambda: running.enter_context(opened(clone)), **one.task(name="s1", state="streamed"))
        assert item.error and item.error.facts["reason"] == "image_in_use", item.error
        assert held(clone) == one.then["s1"]
    assert list(one.points_now()) == ["s1"]
    one.beats(name="s1", state="absent")
    assert point and not point.exists()


@contextlib.contextmanager
def opened(image: Path) -> Iterator[None]:
    """A QEMU has it open meanwhile."""
    program = ["qemu-io", "-f", "qcow2", "-c", "read 0 4k", "-c", "sleep 60000", str(image)]
    with subprocess.Popen(["stdbuf", "-oL", *program], stdout=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout and started.stdout.readline().startswith("read ")
            yield
        finally:
            started.kill()


@pytest.mark.parametrize("state", ["committed", "reverted"])
def test_a_clone_that_was_made_after_the_look_is_seen_before_anything_is_changed(tmp_path: Path, state: str) -> None:
    one = disk(tmp_path, "external", "rename")
    one.take("s1")
    one.write(3)
    base = one.points()["s1"] if state == "committed" else one.active
    clone = one.image.parent / "clone.qcow2"
    options = {"save": False} if state == "reverted" else {}
    make = functools.partial(create, clone, "qcow2", "", "", "-b", base, "-F", "qcow2")
    item = between(make, **one.task(name="s1", state=state, **options))
    assert item.error and item.error.facts["reason"] == "has_overlays", item.error
    assert item.error.message.startswith("refused: ")


def test_a_clone_that_was_made_while_its_base_was_committed_away_keeps_it(tmp_path: Path, instead: Any) -> None:
    one = disk(tmp_path, "external")
    one.take("s1")
    one.write(3)
    clone, seen = one.image.parent / "clone.qcow2", one.now()
    instead(AFTER.format(verb="commit", what=clone_on(one.active, clone)))
    result = call("image_snapshot", **one.task(name="s1", state="committed"))
    assert (result["reason"], result["failed"]) == ("has_overlays", True), result
    assert held(clone) == seen
    one.refuses("has_overlays", name="s1", state="committed")
    clone.unlink()
    (tmp_path / "bin" / "qemu-img").unlink()
    one.beats(name="s1", state="committed")
    assert one.now() == seen


def test_what_was_written_to_a_point_that_is_to_go_is_seen(tmp_path: Path) -> None:
    one = disk(tmp_path, "external", "rename")
    one.take("s1")
    one.write(3)
    one.beats(name="s1", state="reverted")
    left = one.points()["s1.undone"]
    assert left
    refused_between(one, left, name="s1.undone", state="absent")


@pytest.mark.parametrize("save", [True, False])
def test_what_was_written_to_a_layer_that_is_to_be_left_is_seen(tmp_path: Path, save: bool) -> None:
    """With C(save), one that was empty when it was looked at."""
    one = disk(tmp_path, "external", "rename")
    one.take("s1")
    one.write(3)
    one.take("s2")
    refused_between(one, one.active, name="s1", state="reverted", save=save)


def test_the_link_leads_to_the_overlay_before_the_lock_on_the_file_of_then_goes(tmp_path: Path) -> None:
    one = disk(tmp_path, "external", "symlink")
    frozen = one.image.resolve()
    engine = SnapshotEngine([read_spec(one.task(name="s1"))], undressed, qemu_img=QEMU_IMG)
    item = engine.prepare(patient=False)[0]
    LayerEditor(QemuImg(Runner(), QEMU_IMG), undressed).add(item.spec, item.plan[0], item.reading)
    assert (str(frozen), str(one.image.resolve())) == (item.plan[0].active, item.plan[0].overlay)
