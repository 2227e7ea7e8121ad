"""The image of a VM that is defined and does not run is nobody's open file, and is not removed all the same."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._inspect import vm_definitions
from ansible_collections.platter.qemu.plugins.module_utils._tools import locks
from ansible_collections.platter.qemu.plugins.module_utils._vm import task
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.defined import define, define_on, give_up, is_based, node, own_registry
from ansible_collections.platter.qemu.tests.lab.guest import scribble
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img
from ansible_collections.platter.qemu.tests.lab.snapshots import held


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return own_registry(tmp_path, monkeypatch)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    return create(tmp_path / "images" / "a.qcow2", "qcow2", "4M")


def test_the_image_of_a_stopped_vm_is_not_removed(tmp_path: Path, image: Path) -> None:
    options = define(tmp_path, image)
    for consent in ({}, {"backup": True}, {"on_in_use": "skip"}):
        refusal = refused("image_claimed", path=str(image), state="absent", **consent)
    assert refusal["evidence"] == {"vm": "web1", "config": options["config"], "drive": "system", "place": str(image)}
    assert "drive system of VM web1 (defined in %s)" % options["config"] in refusal["msg"]
    assert "qemu_drive with that config and state: absent" in refusal["msg"]
    prepared("qemu_drive", vm="web1", config=options["config"], state="absent")
    four_beats(path=str(image), state="absent")


def test_one_that_the_vm_has_given_up_can_go(tmp_path: Path, image: Path) -> None:
    options = define(tmp_path, image)
    without = {**options, "drives": [{"id": "system", "state": "absent"}]}
    prepared("qemu_drive", **without)
    four_beats(path=str(image), state="absent")


def test_one_of_a_vm_whose_directory_is_gone_can_go(tmp_path: Path, image: Path) -> None:
    shutil.rmtree(define(tmp_path, image)["config"])
    four_beats(path=str(image), state="absent")


def test_whatever_the_drive_is_and_by_whatever_name(tmp_path: Path, image: Path) -> None:
    (tmp_path / "link").symlink_to(image)
    node = {"driver": "raw", "offset": 0, "file": {"driver": "file", "filename": str(tmp_path / "link")}}
    define(tmp_path, node, vm="by-node")
    refused("image_claimed", path=str(image), state="absent")
    prepared("qemu_drive", vm="by-node", config=str(tmp_path / "vms" / "by-node"), state="absent")
    define(tmp_path, image, vm="reader", read_only=True, device="scsi-cd")
    refused("image_claimed", path=str(tmp_path / "link"), state="absent")


def test_another_name_of_the_file_can_go(tmp_path: Path, image: Path) -> None:
    define(tmp_path, image)
    os.link(image, tmp_path / "images" / "second")
    four_beats(path=str(tmp_path / "images" / "second"), state="absent")
    refused("image_claimed", path=str(image), state="absent")


def test_a_data_file_goes_with_its_image_only(tmp_path: Path) -> None:
    path, data = tmp_path / "d.qcow2", tmp_path / "d.data"
    options = {"data_file": str(data), "data_file_raw": True}
    four_beats(path=str(path), format="qcow2", size="4M", options=options)
    define(tmp_path, {"driver": "raw", "file": {"driver": "file", "filename": str(data)}}, read_only=True)
    refusal = refused("image_claimed", path=str(path), state="absent")
    assert "its file %s is drive system" % data in refusal["msg"]


def test_what_keeps_the_disk_is_allowed(tmp_path: Path, image: Path) -> None:
    define(tmp_path, image)
    four_beats(path=str(image), format="qcow2", size="8M")
    four_beats(path=str(image), format="qcow2", options={"cluster_size": "32K"}, allow_rewrite=True)
    four_beats(path=str(image), format="qcow2", options={"lazy_refcounts": True})
    snapshot = {"image": str(image), "format": "qcow2", "name": "before"}
    assert call("image_snapshot", **snapshot)["changed"]
    assert call("image_snapshot", state="absent", **snapshot)["changed"]


def test_another_format_is_said_where_the_definition_does_not_follow(tmp_path: Path, image: Path) -> None:
    define(tmp_path, image)
    asked = {"path": str(image), "format": "raw", "current_format": "qcow2", "allow_rewrite": True}
    assert str(four_beats(**asked)["warnings"]).count("VM web1 is defined with it as qcow2 (drive system") == 1


def test_an_import_over_it_is_of_the_format_that_the_vm_expects(tmp_path: Path) -> None:
    source = {"path": str(tmp_path / "source.raw"), "format": "raw"}
    disk = tmp_path / "imported.qcow2"
    again = {"path": str(disk), "source": source, "source_policy": "if_changed"}
    create(tmp_path / "source.raw", "raw", "4M")
    four_beats(format="qcow2", **again)
    define(tmp_path, disk)
    create(tmp_path / "source.raw", "raw", "8M")
    refusal = refused("image_claimed", format="raw", current_format="qcow2", allow_rewrite=True, **again)
    assert "which expects qcow2 there, and not raw" in refusal["msg"]
    four_beats(format="qcow2", **again)


def test_a_definition_that_cannot_be_read_keeps_all_images(tmp_path: Path, image: Path) -> None:
    config = Path(define(tmp_path, image)["config"])
    (config / "definition.json").write_text("{}")
    refusal = refused("definition_unreadable", path=str(image), state="absent")
    assert refusal["evidence"]["path"] == str(config / "current" / "definition.json")
    refused("definition_unreadable", path=str(image), format="qcow2", size="8M")
    four_beats(path=str(image.with_name("new.qcow2")), format="qcow2", size="1M")
    settled(path=str(image), format="qcow2", size="4M")


def test_many_images_are_looked_for_once(tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    define(tmp_path, image)
    seen = []
    real = vm_definitions.named_files
    monkeypatch.setattr(vm_definitions, "named_files", lambda: seen.append(1) or real())
    others = [create(tmp_path / "images" / ("%d.qcow2" % number), "qcow2", "1M") for number in range(20)]
    result = call("disk_image", images=[{"path": str(each), "state": "absent"} for each in (image, *others)])
    assert [bool(each.get("reason")) for each in result["images"]] == [True] + [False] * 20
    assert len(seen) == 1 and image.exists() and others[0].exists()


def test_nobody_looks_for_a_vm_where_nothing_changes(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vm_definitions, "named_files", lambda: pytest.fail("looked"))
    settled(path=str(image), format="qcow2", size="4M")
    four_beats(path=str(image), format="qcow2", mode="0600")
    four_beats(path=str(tmp_path / "new.qcow2"), format="qcow2", size="1M")
    assert qemu_img("info", tmp_path / "new.qcow2")


def test_what_lies_below_the_disk_of_a_stopped_vm_stays_in_whatever_directory(tmp_path: Path, image: Path) -> None:
    (tmp_path / "golden").mkdir()
    (tmp_path / "middle").mkdir()
    base = create(tmp_path / "golden" / "base.qcow2", "qcow2", "4M")
    middle, overlay = tmp_path / "middle" / "m.qcow2", tmp_path / "images" / "o.qcow2"
    for path, below in ((middle, base), (overlay, middle)):
        four_beats(path=str(path), format="qcow2", backing={"path": str(below), "format": "qcow2"})
    options = define(tmp_path, overlay)
    vms = [{"vm": "web1", "config": options["config"], "drive": "system", "place": str(overlay)}]
    for path, above in ((base, middle), (middle, overlay)):
        refusal = refused("has_overlays", path=str(path), state="absent")
        assert refusal["evidence"] == {"overlays": [str(above)], "vms": vms}
    four_beats(path=str(image), state="absent")
    prepared("qemu_drive", vm="web1", config=options["config"], state="absent")
    four_beats(path=str(overlay), state="absent")
    four_beats(path=str(base), state="absent")


@pytest.mark.parametrize("listed", [False, True], ids=["alone", "with its overlays"])
def test_a_golden_image_goes_by_the_way_that_its_refusal_tells(tmp_path: Path, image: Path, listed: bool) -> None:
    base, overlay = golden(tmp_path)
    other = overlay.with_name("web2.qcow2")
    four_beats(path=str(other), format="qcow2", backing={"path": str(base), "format": "qcow2"})
    # qemu_vm looks for others of that name on the whole host
    vms = [define(tmp_path, path, vm=f"{path.stem}-{os.getpid()}") for path in (overlay, other)]
    define(tmp_path, image, vm="apart")
    gone = [{"path": str(path), "state": "absent"} for path in (base, overlay, other)]
    told = refused("has_overlays", images=gone)["images"][0] if listed else refused("has_overlays", **gone[0])
    assert [(each["vm"], each["config"]) for each in told["evidence"]["vms"]] == [(v["vm"], v["config"]) for v in vms]
    named = ["VM %s (defined in %s)" % (each["vm"], each["config"]) for each in vms]
    assert "; %s have disks on it. " % ", ".join(named) in told["msg"]
    assert (
        "qemu_vm with state: absent, which ends it, and then qemu_drive with that config and state: absent"
        in told["msg"]
    )
    assert "Remove those images too, in the same list" in told["msg"]
    for each in vms:
        options = {"vm": each["vm"], "config": each["config"], "state": "absent"}
        assert not call("qemu_vm", **options).get("failed") and call("qemu_drive", **options)["changed"]
    assert call("disk_image", images=gone)["changed"]
    assert not (base.exists() or overlay.exists() or other.exists())


def test_of_many_vms_on_a_golden_image_some_are_told_and_all_are_evidence(tmp_path: Path) -> None:
    base, overlay = golden(tmp_path)
    others = [overlay.with_name("vm%d.qcow2" % number) for number in range(7)]
    call(
        "disk_image",
        images=[{"path": str(each), "backing": {"path": str(base), "format": "qcow2"}} for each in others],
        format="qcow2",
    )
    for each in others:
        define(tmp_path, each, vm=each.stem)
    told = refused("has_overlays", path=str(base), state="absent")
    assert [each["vm"] for each in told["evidence"]["vms"]] == [each.stem for each in others]
    assert "VM vm4 (defined in %s) and 2 more have disks on it" % (tmp_path / "vms" / "vm4") in told["msg"]


def test_a_golden_image_of_a_stopped_vm_is_not_made_anew_in_another_directory(tmp_path: Path) -> None:
    source, base = {"path": str(tmp_path / "source.raw"), "format": "raw"}, tmp_path / "golden.qcow2"
    again = {"path": str(base), "format": "qcow2", "source": source, "source_policy": "if_changed"}
    create(tmp_path / "source.raw", "raw", "4M")
    four_beats(**again)
    (tmp_path / "images").mkdir()
    overlay = tmp_path / "images" / "o.qcow2"
    four_beats(path=str(overlay), format="qcow2", backing={"path": str(base), "format": "qcow2"})
    define(tmp_path, overlay)
    create(tmp_path / "source.raw", "raw", "8M")
    assert refused("has_overlays", **again)["evidence"] == {"overlays": [str(overlay)]}


#: what changes an image in place, each of a kind of its own
IN_PLACE: list[dict[str, Any]] = [
    {"size": "8M"},
    {"size": "2M", "allow_shrink": True, "discard_data": True},
    {"options": {"lazy_refcounts": True}},
    {"options": {"cluster_size": "32K"}, "allow_rewrite": True},
    {"flatten": True},
    {"backing": {"path": "other", "format": "qcow2"}},
]


@pytest.mark.parametrize("change", IN_PLACE, ids=str)
def test_a_base_of_a_stopped_vm_is_not_changed_in_whatever_directory(tmp_path: Path, change: dict[str, Any]) -> None:
    base, overlay = golden(tmp_path)
    if "backing" in change:
        create(tmp_path / "golden" / "other", "qcow2", "4M")
        change = {**change, "backing": {**change["backing"], "path": str(tmp_path / "golden" / "other")}}
    options = define(tmp_path, overlay)
    before = held(overlay)
    task = {"path": str(base), "format": "qcow2", **change}
    refusal = refused("has_overlays", watch=[overlay.parent], **task)
    assert refusal["evidence"] == {"overlays": [str(overlay)]}
    assert held(overlay) == before
    beside = tmp_path / "golden" / "beside.qcow2"  # the same is refused for one that is found there
    os.rename(overlay, beside)
    prepared("qemu_drive", vm="web1", config=options["config"], state="absent")
    assert refused("has_overlays", **task)["evidence"] == {"overlays": [str(beside)]}
    beside.unlink()
    assert call("disk_image", check=True, **task)["changed"]


@pytest.mark.parametrize("change", [*IN_PLACE, {"import": True}], ids=str)
def test_a_base_that_only_a_definition_names_is_not_changed(tmp_path: Path, change: dict[str, Any]) -> None:
    base, overlay = golden(tmp_path)
    task = {"path": str(base), "format": "qcow2", **change}
    if "backing" in change:
        create(tmp_path / "golden" / "other", "qcow2", "4M")
        task["backing"] = {**change["backing"], "path": str(tmp_path / "golden" / "other")}
    if task.pop("import", None):
        source = {"path": str(create(tmp_path / "source.raw", "raw", "4M")), "format": "raw"}
        base.unlink()
        task.update(source=source, source_policy="if_changed")
        four_beats(**task)
        create(tmp_path / "source.raw", "raw", "8M")
    overlay.unlink()
    vm, overlay = define_on(tmp_path, base)
    is_based(refused("image_claimed", watch=[overlay.parent], **task), vm, base, overlay)
    give_up(vm)
    four_beats(**task)


def test_what_lies_below_a_base_that_only_a_definition_names_is_not_changed_either(tmp_path: Path) -> None:
    base, overlay = golden(tmp_path)
    overlay.unlink()
    elsewhere = tmp_path / "bottom.qcow2"
    os.rename(tmp_path / "golden" / "bottom.qcow2", elsewhere)
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", elsewhere, "-F", "qcow2", base)
    vm, overlay = define_on(tmp_path, base)
    task = {"path": str(elsewhere), "format": "qcow2", "size": "8M"}
    assert refused("has_overlays", **task)["evidence"] == {"overlays": [str(base)]}
    give_up(vm)
    four_beats(**task)


def test_the_image_on_such_a_base_changes_with_its_own_data_file(tmp_path: Path) -> None:
    path, data = tmp_path / "d.qcow2", tmp_path / "d.data"
    four_beats(path=str(path), format="qcow2", size="4M", options={"data_file": str(data)})
    base = create(tmp_path / "base.raw", "raw", "4M")
    more = {"data-file": {"driver": "file", "filename": str(data)}, "backing": node("raw", base)}
    define(tmp_path, node("qcow2", path, **more))
    four_beats(path=str(path), format="qcow2", size="8M")
    refused("image_claimed", path=str(base), format="raw", size="8M")


def test_what_the_guest_of_a_raw_disk_has_written_keeps_no_image_from_changing(tmp_path: Path) -> None:
    base, overlay = golden(tmp_path)
    raw = create(overlay.with_name("web1.raw"), "raw", "4M")
    define(tmp_path, raw, format="raw")
    raw.write_bytes(overlay.read_bytes())
    overlay.unlink()
    four_beats(path=str(base), format="qcow2", size="8M")


def golden(tmp_path: Path) -> tuple[Path, Path]:
    """A base on something in its directory, and an overlay on it in another directory."""
    (tmp_path / "golden").mkdir()
    (tmp_path / "disks").mkdir()
    bottom = create(tmp_path / "golden" / "bottom.qcow2", "qcow2", "4M")
    base, overlay = tmp_path / "golden" / "base.qcow2", tmp_path / "disks" / "web1.qcow2"
    for path, below in ((base, bottom), (overlay, base)):
        four_beats(path=str(path), format="qcow2", backing={"path": str(below), "format": "qcow2"})
    scribble(base, "qcow2")
    return base, overlay


# --- while a VM is being defined


def test_a_vm_that_is_defined_after_the_look_keeps_its_image(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = create(image.with_name("other.qcow2"), "qcow2", "1M")
    real, looks = vm_definitions.named_files, []

    def look() -> list[vm_definitions.Named]:
        found = real()
        looks.append(found)
        if len(looks) == 1:
            define(tmp_path, image)
        return found

    monkeypatch.setattr(vm_definitions, "named_files", look)
    entries = [{"path": str(each), "state": "absent"} for each in (image, other)]
    result = call("disk_image", images=entries, fail_fast=False)
    assert [each.get("reason") for each in result["images"]] == ["image_claimed", None]
    kept, gone = (each["image"] for each in result["images"])
    assert (kept["state"], gone["state"]) == ("present", "absent"), result
    assert (result["failed"], image.exists(), other.exists(), len(looks)) == (True, True, False, 2)


def test_nothing_is_removed_while_a_vm_is_being_defined(tmp_path: Path, image: Path, registry: Path) -> None:
    gone = {"path": str(image), "state": "absent"}
    with task.TaskEngine([], "").hold():  # of qemu_drive, until the definition is written
        result = call("disk_image", lock_timeout=0, **gone)
    assert (result["reason"], result["changed"], image.exists()) == ("lock_timeout", False, True), result
    with locks.ImageLocks((), [str(registry)]):  # as another that removes images
        four_beats(**gone)
