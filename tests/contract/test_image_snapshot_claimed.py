"""What the snapshots of a disk are for VMs that are defined and do not run: nobody has their images open."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._inspect import vm_definitions
from ansible_collections.platter.qemu.plugins.module_utils._tools import locks
from ansible_collections.platter.qemu.plugins.module_utils._vm import task
from ansible_collections.platter.qemu.tests.lab.between import AFTER, between
from ansible_collections.platter.qemu.tests.lab.defined import define, define_on, give_up, is_based, node, own_registry
from ansible_collections.platter.qemu.tests.lab.machine import machine
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, disk, held


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return own_registry(tmp_path, monkeypatch)


def clone_of(path: Any, tmp_path: Path, middle: bool = False) -> Path:
    """An overlay in another directory; with C(middle) on one in a third."""
    for name in ["middle", "clones"] if middle else ["clones"]:
        (tmp_path / name).mkdir()
        path = create(tmp_path / name / "clone.qcow2", "qcow2", "", "", "-b", path, "-F", "qcow2")
    return Path(path)


def two(tmp_path: Path, switch: str = "none") -> Disk:
    """A disk with two snapshots, written to before and after each."""
    one = disk(tmp_path, "external", switch)
    for byte, name in enumerate(("s1", "s2"), 3):
        one.take(name)
        one.write(byte)
    return one


def keeps(one: Disk, clone: Path, reason: str = "has_overlays", **options: Any) -> dict[str, Any]:
    """The task is refused, in check mode too, and both disks are as they were."""
    seen = (one.now(), held(clone))
    refusal = one.refuses(reason, watch=[clone.parent], **options)
    assert (one.now(), held(clone)) == seen
    return refusal


@pytest.mark.parametrize(
    "change",
    [
        {"name": "new"},
        {"name": "old", "state": "absent"},
        {"name": "old", "state": "reverted"},
        {"bitmaps": [{"name": "daily"}]},
    ],
    ids=str,
)
def test_a_base_of_a_stopped_vm_has_no_internal_snapshots(tmp_path: Path, change: dict[str, Any]) -> None:
    one = disk(tmp_path)
    one.take("old")
    one.write(3)
    clone = clone_of(one.image, tmp_path)
    options = define(tmp_path, clone)
    assert keeps(one, clone, **change)["evidence"] == {"overlays": [str(clone)]}
    one.settled(name="old")
    give_up(options)
    one.beats(**change)


@pytest.mark.parametrize("change", [{"name": "new"}, {"name": "old", "state": "absent"}], ids=str)
def test_a_base_that_only_a_definition_names_has_no_internal_snapshots(tmp_path: Path, change: dict[str, Any]) -> None:
    one = disk(tmp_path)
    one.take("old")
    one.write(3)
    vm, overlay = define_on(tmp_path, one.image)
    is_based(keeps(one, overlay, "image_claimed", **change), vm, one.image, overlay)
    one.settled(name="old")
    give_up(vm)
    one.beats(**change)


@pytest.mark.parametrize("change", [{"name": "s1", "state": "committed"}, {"name": "s1", "state": "reverted"}], ids=str)
def test_a_layer_that_only_a_definition_names_as_a_base_is_not_changed(tmp_path: Path, change: dict[str, Any]) -> None:
    """Another VM has the lower file below an image of its own, or the disk of now, which would get another name."""
    one = two(tmp_path, "none" if change["state"] == "committed" else "rename")
    base = one.points()["s1"] if change["state"] == "committed" else one.active
    one.more = {"image": str(one.active)}
    vm, overlay = define_on(tmp_path, base)
    is_based(keeps(one, overlay, "image_claimed", **change), vm, base, overlay)
    give_up(vm)
    one.beats(**change)


def test_the_vm_of_the_disk_may_say_what_its_layers_are(tmp_path: Path) -> None:
    one = two(tmp_path)
    points = one.points()
    lower = node("qcow2", points["s2"], backing=node("qcow2", points["s1"]))
    define(tmp_path, node("qcow2", one.active, backing=lower))
    one.beats(name="s2", state="committed")
    assert "define that drive anew" in str(one.result["warnings"])


@pytest.mark.parametrize("state", ["absent", "streamed"])
def test_a_point_on_which_a_stopped_vm_is_built_is_not_merged(tmp_path: Path, state: str) -> None:
    one = two(tmp_path)
    clone = clone_of(one.points()["s1"], tmp_path, middle=True)
    define(tmp_path, clone)
    one.more = {"image": str(one.active)}
    refusal = keeps(one, clone, name="s1", state=state)
    assert refusal["evidence"] == {"overlays": [str(tmp_path / "middle" / "clone.qcow2")]}
    assert "name their directory in overlay_directories" in refusal["msg"]
    one.more = {}
    one.beats(name="s2", state="absent")


def test_a_merge_goes_around_a_stopped_vm_whose_directory_is_named(tmp_path: Path) -> None:
    one = two(tmp_path)
    clone = clone_of(one.points()["s2"], tmp_path)
    define(tmp_path, clone)
    keeps(one, clone, name="s2", state="absent")
    seen = (one.now(), held(clone))
    one.beats(name="s2", state="absent", overlay_directories=[str(clone.parent)])
    assert (one.now(), held(clone)) == seen


@pytest.mark.parametrize("change", [{"name": "s1", "state": "reverted"}, {"name": "s3"}], ids=str)
def test_the_disk_of_now_is_not_moved_away_under_a_stopped_vm(tmp_path: Path, change: dict[str, Any]) -> None:
    one = two(tmp_path, "rename")
    clone = clone_of(one.active, tmp_path)
    define(tmp_path, clone)
    assert keeps(one, clone, **change)["evidence"] == {"overlays": [str(clone)]}


def test_the_file_of_a_point_with_which_a_vm_is_defined_stays(tmp_path: Path) -> None:
    one = disk(tmp_path, "external", "rename")
    one.take("s1")
    one.write(3)
    one.beats(name="s1", state="reverted", save_as="left")
    left = one.points()["left"]
    options = define(tmp_path, left)
    refusal = one.refuses("image_claimed", name="left", state="absent")
    assert refusal["evidence"] == {"vm": "web1", "config": options["config"], "drive": "system", "place": str(left)}
    assert "its file %s is drive system of VM web1 (defined in %s)" % (left, options["config"]) in refusal["msg"]
    give_up(options)
    one.beats(name="left", state="absent")


@pytest.mark.parametrize("way", ["committed", "streamed"])
@pytest.mark.parametrize("switch", ["none", "rename"])
def test_no_layer_goes_with_which_a_vm_is_defined(tmp_path: Path, switch: str, way: str) -> None:
    """Of the two layers of a merge the upper one goes, or the lower one, or its name."""
    one = two(tmp_path, switch)
    points = one.points()
    gone = points["s1" if way == "streamed" else "s2"]
    options = define(tmp_path, gone, read_only=True)
    seen = one.now()
    one.more = {"image": str(one.active)} if switch == "none" else {}
    refusal = one.refuses("image_claimed", name="s1", state=way)
    assert "or define it with the disk of now, %s" % one.active in refusal["msg"] and one.now() == seen
    give_up(options)
    one.beats(name="s1", state=way)
    assert one.now() == seen


def test_the_vm_of_the_disk_itself_is_told_where_that_is(tmp_path: Path) -> None:
    one = two(tmp_path)
    left = one.active
    define(tmp_path, left)
    one.beats(name="s2", state="committed")
    told = "The disk of %s is in %s then, and VM web1 is defined with %s (drive system" % (one.image, one.active, left)
    assert str(one.result["warnings"]).count(told) == 1


@pytest.mark.parametrize("switch", ["rename", "symlink"])
def test_a_vm_that_knows_the_name_of_the_disk_is_none_the_wiser(tmp_path: Path, switch: str) -> None:
    one = two(tmp_path, switch)
    define(tmp_path, one.image)
    for change in (
        {"state": "committed"},
        {"name": "s1", "state": "reverted", "save": False},
        {"name": "s1", "state": "absent"},
    ):
        result = one.beats(**{"name": "s2", **change})
        assert "warnings" not in result, result


def test_definitions_are_read_where_others_could_be_harmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = disk(tmp_path, "external")
    config = Path(define(tmp_path, one.image)["config"])
    (config / "definition.json").write_text("{}")
    one.take("s1")
    one.refuses("definition_unreadable", name="s1", state="absent")
    monkeypatch.setattr(vm_definitions, "named_files", lambda: pytest.fail("looked"))
    one.settled(name="s1")
    one.settled(name="never", state="absent")


# --- while a VM is being defined


#: what would harm an image on the disk, with how the disk is switched and which of its files that is on
HARMING: list[tuple[dict[str, Any], str, str]] = [
    ({"name": "new", "kind": "internal"}, "none", "now"),
    ({"name": "s3"}, "rename", "now"),
    ({"name": "s1", "state": "reverted"}, "rename", "now"),
    ({"name": "s2", "state": "committed"}, "none", "s2"),
    ({"name": "s1", "state": "streamed"}, "rename", "s1"),
]


@pytest.mark.parametrize("by_header", [True, False])
@pytest.mark.parametrize(("change", "switch", "base"), HARMING, ids=str)
def test_a_base_of_a_vm_that_is_defined_after_the_look_is_not_changed(
    tmp_path: Path, change: dict[str, Any], switch: str, base: str, by_header: bool
) -> None:
    one = disk(tmp_path) if "kind" in change else two(tmp_path, switch)
    below = one.active if base == "now" else one.points()[base]
    defined, overlays = [], []

    def meanwhile() -> None:
        overlays.append(clone_of(below, tmp_path) if by_header else create(tmp_path / "o.qcow2", "qcow2", "1M"))
        more = {} if by_header else {"backing": node("qcow2", below)}
        defined.append(define(tmp_path, node("qcow2", overlays[0], **more)))

    seen = one.now()
    item = between(meanwhile, **one.task(**change))
    assert item.error and item.error.message.startswith("refused: "), item.error
    # a file that goes is named by the definition itself
    assert item.error.facts["reason"] == ("has_overlays" if by_header else "image_claimed")
    assert (item.done, item.after, one.now()) == (0, item.before, seen)
    give_up(defined[0])
    overlays[0].unlink()
    one.beats(**change)


@pytest.mark.parametrize("state", ["absent", "committed"])
def test_a_file_of_a_vm_that_is_defined_after_the_look_stays(tmp_path: Path, state: str) -> None:
    one = two(tmp_path, "rename")
    if state == "absent":
        one.beats(name="s1", state="reverted", save_as="left")
    name = "left" if state == "absent" else "s1"
    gone, defined, seen = one.points()[name if state == "absent" else "s2"], [], one.now()
    item = between(lambda: defined.append(define(tmp_path, gone, read_only=True)), **one.task(name=name, state=state))
    assert item.error and item.error.facts["reason"] == "image_claimed", item.error
    assert (item.done, item.after, one.now()) == (0, item.before, seen) and gone and gone.exists()
    give_up(defined[0])
    one.beats(name=name, state=state)


def defined_by(options: dict[str, Any], registry: Path, instead: Any, verb: str) -> None:
    """A VM is defined by that time at which this command of qemu-img has ended, and not before."""
    hidden, shown = registry / ".later", registry / options["vm"]
    shown.rename(hidden)  # names with a dot are no definitions
    instead(AFTER.format(verb=verb, what="mv -T %s %s 2> /dev/null || :" % (hidden, shown)))


@pytest.mark.parametrize("by_header", [True, False])
def test_a_layer_stays_with_which_a_vm_is_defined_while_it_is_committed(
    tmp_path: Path, registry: Path, instead: Any, by_header: bool
) -> None:
    one = two(tmp_path)
    gone, seen = one.points()["s2"], one.now()
    clone = clone_of(gone, tmp_path)
    then = held(clone)
    vm = define(tmp_path, clone) if by_header else define(tmp_path, gone, read_only=True)
    defined_by(vm, registry, instead, "commit")
    task = one.task(name="s1", state="committed")
    result = call("image_snapshot", **task)
    assert (result.get("reason"), result["changed"], one.now(), held(clone)) == ("image_claimed", True, seen, then), (
        result
    )
    user = str(clone) if by_header else "drive system of VM web1, defined in %s" % vm["config"]
    assert result["evidence"] == {"users": [user]} and "State now" in result["msg"]
    (tmp_path / "bin" / "qemu-img").unlink()
    one.refuses("has_overlays" if by_header else "image_claimed", name="s1", state="committed")
    give_up(vm)
    assert call("image_snapshot", **task)["changed"] and one.now() == seen and gone and not gone.exists()


@pytest.mark.parametrize("by_header", [True, False])
def test_a_point_stays_with_which_a_vm_is_defined_while_it_is_streamed(
    tmp_path: Path, registry: Path, instead: Any, by_header: bool
) -> None:
    one = two(tmp_path, "rename")
    point, seen = one.points()["s1"], one.now()
    clone = clone_of(point, tmp_path)
    then = held(clone)
    vm = define(tmp_path, clone) if by_header else define(tmp_path, point, read_only=True)
    defined_by(vm, registry, instead, "rebase")
    result = call("image_snapshot", **one.task(name="s1", state="streamed"))
    assert result["changed"] and not result.get("failed"), result
    user = str(clone) if by_header else "drive system of VM web1, defined in %s" % vm["config"]
    assert "%s stays, and is no snapshot any more" % point in str(result["warnings"]) and user in str(
        result["warnings"]
    )
    assert (one.now(), held(clone), list(one.points_now())) == (seen, then, ["s2"])


def test_each_merge_looks_for_vms_that_were_defined_during_the_one_before(
    tmp_path: Path, registry: Path, instead: Any
) -> None:
    first, second = (disk(tmp_path / name, "external") for name in places(tmp_path, "first", "second"))
    for one in (first, second):
        one.take("s1")
        one.write(3)
    clone, seen = clone_of(second.points()["s1"], tmp_path), (first.now(), second.now())
    then = held(clone)
    vm = define(tmp_path, clone)
    defined_by(vm, registry, instead, "commit")
    tasks = [one.task(name="s1", state="committed") for one in (first, second)]
    result = call("image_snapshot", snapshots=tasks, workers=1)
    assert [each.get("reason") for each in result["snapshots"]] == [None, "has_overlays"], result
    assert [each["changed"] for each in result["snapshots"]] == [True, False]
    assert result["snapshots"][1]["evidence"] == {"overlays": [str(clone)]}
    assert (held(clone), held(first.image), second.now()) == (then, *seen)


def places(tmp_path: Path, *names: str) -> list[str]:
    for name in names:
        (tmp_path / name).mkdir()
    return list(names)


@pytest.mark.parametrize(("look", "changed"), [(3, False), (4, True)])
def test_a_guest_goes_on_in_a_layer_on_which_a_vm_is_defined_while_it_is_committed(
    tmp_path: Path, registry: Path, monkeypatch: pytest.MonkeyPatch, look: int, changed: bool
) -> None:
    """Before the job begins, and when all is copied. The looks before are those of the task."""
    one = two(tmp_path)
    clone, seen = clone_of(one.active, tmp_path), one.now()
    then = held(clone)
    vm = define(tmp_path, clone)
    (registry / vm["vm"]).rename(registry / ".later")
    real, looks = vm_definitions.named_files, []

    def looked() -> list[vm_definitions.Named]:
        looks.append(1)
        if len(looks) == look:
            (registry / ".later").rename(registry / vm["vm"])
        return real()

    monkeypatch.setattr(vm_definitions, "named_files", looked)
    one.more = {"qmp_socket": str(tmp_path / "qmp")}
    with machine(tmp_path / "qmp", one.active) as running:
        result = call("image_snapshot", **one.task(name="s2", state="committed"))
        assert (result["reason"], result["changed"]) == ("image_claimed" if changed else "has_overlays", changed), (
            result
        )
        assert running.jobs() == [] and running.shows(4, 0)
    assert (one.now(), held(clone)) == (seen, then)


def test_nothing_is_harmed_while_a_vm_is_being_defined(tmp_path: Path, registry: Path) -> None:
    one = two(tmp_path)
    with task.TaskEngine([], "").hold():  # of qemu_drive, until the definition is written
        result = call("image_snapshot", lock_timeout=0, **one.task(name="s1", state="committed"))
        one.take("s3")  # an overlay that is put on the disk harms nobody
    assert (result["reason"], result["changed"]) == ("lock_timeout", False), result
    with locks.ImageLocks((), [str(registry)]):  # as another that changes images
        one.beats(name="s3", state="committed")


def test_nobody_waits_for_a_merge_to_define_a_vm(tmp_path: Path, registry: Path, instead: Any) -> None:
    """While qemu-img copies, the lock of all definitions is free."""
    one = two(tmp_path)
    program = tmp_path / "try.py"
    program.write_text(TRY % (sys.path, str(registry)))
    instead(AFTER.format(verb="commit", what='"%s" "%s"' % (sys.executable, program)))
    assert call("image_snapshot", **one.task(name="s2", state="committed"))["changed"]
    assert (tmp_path / "free").exists()


TRY = """import pathlib, sys
sys.path[:] = %r
from ansible_collections.platter.qemu.plugins.module_utils._tools import locks
with locks.ImageLocks([%r], timeout=0):
    (pathlib.Path(__file__).parent / "free").touch()
"""


def test_definitions_are_read_twice_for_many_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [create(tmp_path / ("%d.qcow2" % number), "qcow2", "1M") for number in range(20)]
    define(tmp_path, images[0])
    seen, real = [], vm_definitions.named_files
    monkeypatch.setattr(vm_definitions, "named_files", lambda: seen.append(1) or real())
    tasks = [{"image": str(each), "format": "qcow2", "name": "s1"} for each in images]
    for check, looks in ((True, 1), (False, 3), (False, 3)):  # before anything is planned, and when it acts
        call("image_snapshot", check=check, snapshots=tasks)
        assert len(seen) == looks
