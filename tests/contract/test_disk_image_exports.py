"""Images in NBD exports: made, imported and compared there, with real servers, dead ones, and one that loses data."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import digest, four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.guest import KIB, MIB, guest_bytes, scribble, shows
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared, process
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img
from ansible_collections.platter.qemu.tests.lab.programs import answers_nbd, exported, running, wait_until

SERVED = ("-x", "disk", "-e", "8")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """What the server serves: a file of 8 MiB, in which the tests look for what came of a task."""
    (tmp_path / "served").mkdir()
    return create(tmp_path / "served" / "disk", "raw", "8M")


@pytest.fixture
def place(tmp_path: Path, disk: Path) -> Iterator[str]:
    with exported(disk, "raw", tmp_path / "s", *SERVED):
        yield f"nbd+unix:///disk?socket={tmp_path / 's'}"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = create(tmp_path / "source.qcow2", "qcow2", "4M")
    scribble(path, "qcow2")
    return path


def task(place: object, source: Path, format: str = "raw", **more: Any) -> dict[str, Any]:
    return {"path": place, "format": format, "source": {"path": str(source), "format": "qcow2"}, **more}


@contextlib.contextmanager
def nbdkit(socket: Path, *arguments: str) -> Iterator[str]:
    with running("nbdkit", "-f", "-U", socket, *arguments):
        wait_until(lambda: answers_nbd(str(socket)), "nbdkit serves")
        yield f"nbd+unix:///?socket={socket}"


def kept(disk: Path) -> Path:
    """A copy of what the server has, as the file itself is locked."""
    return Path(shutil.copy(disk, disk.parent.parent / "kept"))


# --- four beats


def test_an_image_is_imported_into_an_export(place: str, disk: Path, source: Path) -> None:
    result = four_beats(watch=[disk.parent], **task(place, source))
    assert result["actions"] == [f"Import {source} (qcow2) to {place} as raw, 8 MiB."]
    assert result["image"] == {
        "path": place,
        "state": "present",
        "format": "raw",
        "virtual_size": 8 * MIB,
        "backing": None,
    }
    assert disk.read_bytes() == guest_bytes(source, "qcow2") + bytes(4 * MIB)


def test_an_image_is_imported_as_qcow2_into_an_export(place: str, disk: Path, source: Path) -> None:
    result = four_beats(watch=[disk.parent], **task(place, source, "qcow2", options={"cluster_size": "128K"}))
    assert _drivers_over_nbd(result) == {"raw"}
    shows(kept(disk), "qcow2")
    assert json.loads(qemu_img("info", "--output=json", "-f", "qcow2", kept(disk)))["cluster-size"] == 128 * KIB


def _drivers_over_nbd(result: dict[str, Any]) -> set[str]:
    """As what QEMU has opened the export."""
    arguments = [argument for command in result["commands"] for argument in command if '"nbd"' in argument]
    return {json.loads(argument.removeprefix("json:"))["driver"] for argument in arguments}


def test_an_empty_image_is_made_in_an_export(place: str, disk: Path) -> None:
    four_beats(watch=[disk.parent], path=place, format="qcow2", size="16M")
    assert json.loads(qemu_img("info", "--output=json", "-f", "qcow2", kept(disk)))["virtual-size"] == 16 * MIB
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -q -P 7 1M 1M", place], check=True)
    settled(disk.parent, path=place, format="qcow2", size="16M")
    assert guest_bytes(kept(disk), "qcow2").count(7) == MIB


def test_an_export_is_a_raw_image_as_it_is(place: str, disk: Path) -> None:
    scribble(disk, "raw")
    settled(disk.parent, path=place, format="raw")
    settled(disk.parent, path=place, format="raw", size="8M")
    shows(kept(disk), "raw")


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_the_place_is_written_as_a_node_too(tmp_path: Path, disk: Path, source: Path, format: str) -> None:
    node = {"driver": "nbd", "export": "a name, ü", "server": {"type": "unix", "path": str(tmp_path / "a,s")}}
    with exported(disk, "raw", tmp_path / "a,s", "-x", "a name, ü", "-e", "8"):
        four_beats(watch=[disk.parent], **task(node, source, format))
    shows(kept(disk), format)


def test_a_node_may_say_what_no_uri_can(tmp_path: Path, place: str, disk: Path, source: Path) -> None:
    node: dict[str, Any] = {"driver": "nbd", "export": "disk", "server": {"type": "unix", "path": str(tmp_path / "s")}}
    node["reconnect-delay"] = 10
    four_beats(watch=[disk.parent], **task(node, source, "qcow2"))
    shows(kept(disk), "qcow2")


def test_an_export_is_listed_once_however_it_is_spelled(tmp_path: Path, place: str, source: Path) -> None:
    node = {"driver": "nbd", "server": {"path": str(tmp_path / "s"), "type": "unix"}, "export": "disk"}
    refused("duplicate_item", images=[task(place, source), task(node, source)])


def test_one_export_is_copied_to_another(tmp_path: Path, place: str, disk: Path, source: Path) -> None:
    with exported(source, "qcow2", tmp_path / "from", "-r", "-e", "8"):
        given = {"path": f"nbd+unix:///?socket={tmp_path / 'from'}", "format": "raw"}
        four_beats(watch=[disk.parent], path=place, format="raw", source=given)
    shows(kept(disk), "raw")


def test_files_and_exports_are_made_in_one_task(tmp_path: Path, place: str, disk: Path, source: Path) -> None:
    images = [task(place, source), {"path": str(tmp_path / "new"), "format": "qcow2", "size": "1M"}]
    result = four_beats(watch=[disk.parent], images=images)
    assert [entry["changed"] for entry in result["images"]] == [True, True]
    shows(kept(disk), "raw")


# --- what is there


def test_what_is_in_an_export_is_not_written_over(place: str, disk: Path, source: Path) -> None:
    scribble(disk, "raw", ((0x77, 6 * MIB, KIB),))
    result = refused("exists_different", watch=[disk.parent], **task(place, source))
    assert "Set source_policy to if_changed to write over it" in result["msg"]
    refused("signature_present", watch=[disk.parent], **task(place, source, "qcow2"))
    refused("signature_present", watch=[disk.parent], path=place, format="qcow2", size="4M")


def test_an_export_follows_its_source_when_the_task_says_so(tmp_path: Path, place: str, disk: Path) -> None:
    source = create(tmp_path / "source.qcow2", "qcow2", "8M")
    scribble(source, "qcow2")
    scribble(disk, "raw", ((0x77, 6 * MIB, KIB),))
    result = four_beats(watch=[disk.parent], **task(place, source, source_policy="if_changed"))
    assert "replacing the image there: its content is not that of the source" in result["actions"][0]
    shows(kept(disk), "raw")


def test_a_shorter_source_would_leave_the_end(place: str, disk: Path, source: Path) -> None:
    scribble(disk, "raw", ((0x77, 6 * MIB, KIB),))
    result = refused("exists_different", watch=[disk.parent], **task(place, source, source_policy="if_changed"))
    assert "Clear the export first" in result["msg"]


@pytest.mark.parametrize("policy", ["if_absent", "if_changed"])
def test_a_changed_source_of_a_qcow2_image(place: str, disk: Path, source: Path, policy: str) -> None:
    given = task(place, source, "qcow2", source_policy=policy)
    prepared("disk_image", **given)
    scribble(source, "qcow2", ((0x66, 3 * MIB, KIB),))
    if policy == "if_absent":
        refused("exists_different", watch=[disk.parent], **given)
        return
    four_beats(watch=[disk.parent], **given)
    shows(kept(disk), "qcow2", ((0x66, 3 * MIB, KIB),))


def test_an_image_of_another_format_is_no_raw_one(place: str, disk: Path) -> None:
    prepared("disk_image", path=place, format="qcow2", size="4M")
    refused("format_mismatch", path=place, format="raw")


def test_an_image_there_that_names_other_files_is_not_opened(tmp_path: Path, disk: Path, source: Path) -> None:
    create(disk, "qcow2", "4M", "", "-u", "-b", "/etc/passwd", "-F", "raw")
    with exported(disk, "raw", tmp_path / "s", *SERVED):
        place = f"nbd+unix:///disk?socket={tmp_path / 's'}"
        refused("image_references_file", **task(place, source, "qcow2"))
        refused("image_references_file", path=place, format="qcow2", size="4M")


def test_an_image_in_an_export_is_not_edited(place: str, disk: Path) -> None:
    prepared("disk_image", path=place, format="qcow2", size="4M")
    refused("exists_different", watch=[disk.parent], path=place, format="qcow2", size="6M")
    refused("exists_different", watch=[disk.parent], path=place, format="qcow2", options={"cluster_size": "128K"})
    refused("exists_different", watch=[disk.parent], path=place, format="qcow2", options={"lazy_refcounts": True})


def test_an_export_is_not_removed(place: str, disk: Path) -> None:
    refused("not_removable", watch=[disk.parent], path=place, state="absent")


def test_an_export_has_its_size(tmp_path: Path, place: str, disk: Path) -> None:
    source = create(tmp_path / "source.qcow2", "qcow2", "16M")
    scribble(source, "qcow2", ((0x11, 0, 12 * MIB),))
    refused("would_exceed_space", watch=[disk.parent], **task(place, source))
    refused("exists_different", watch=[disk.parent], path=place, format="raw", size="16M")
    before = digest(disk)
    result = call("disk_image", **task(place, source, "qcow2"))
    assert (result["reason"], result["changed"], digest(disk)) == ("would_exceed_space", False, before)


@pytest.mark.parametrize(
    "more",
    [
        {"mode": "0600"},
        {"backup": True},
        {"compressed": True},
        {"flatten": True},
        {"options": {"preallocation": "full"}},
        {"source": {"url": "http://127.0.0.1:1/x", "format": "qcow2"}},
        {"source": {"path": "nbd://127.0.0.1:1/x", "format": "qcow2"}},
        {"format": "vmdk"},
    ],
    ids=str,
)
def test_what_only_files_have_is_refused(place: str, more: dict[str, Any]) -> None:
    refused("bad_option", **{"path": place, "format": "qcow2", "size": "4M", **more})


# --- servers that fail


def test_a_server_that_is_not_there_is_told(tmp_path: Path, source: Path, place: str) -> None:
    gone = f"nbd+unix:///disk?socket={tmp_path / 'gone'}"
    result = refused("place_unreachable", **task(gone, source))
    assert f"a raw image at {gone}: the export cannot be opened (" in result["msg"]
    refused("place_unreachable", **task(place.replace("/disk?", "/other?"), source))


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_a_server_that_loses_data_is_found_out(tmp_path: Path, source: Path, format: str) -> None:
    with nbdkit(tmp_path / "s", "null", "8M") as place:
        result = call("disk_image", **task(place, source, format))
    assert result["failed"] is True and result["msg"].startswith("failed at: ")
    assert f"State now: {place} may hold a part of it." in result["msg"]
    assert (result["reason"], result["changed"]) == ("verification_failed", True)


def test_success_is_only_said_of_what_a_failing_server_really_took(tmp_path: Path, disk: Path) -> None:
    source = create(tmp_path / "source.qcow2", "qcow2", "8M")
    scribble(source, "qcow2", ((0x11, 0, 7 * MIB),))
    error = ["--filter=error", "file", str(disk), "error-pwrite=EIO", "error-pwrite-rate=90%"]
    with nbdkit(tmp_path / "s", *error) as place:
        results = [call("disk_image", **task(place, source)) for _try in range(5)]
        whole = disk.read_bytes() == guest_bytes(source, "qcow2")
    assert bool(results[-1].get("failed")) is not whole
    assert results[0]["msg"].startswith("failed at: Import ") and "Input/output error" in results[0]["msg"]
    with nbdkit(tmp_path / "sound", "file", str(disk)) as place:
        four_beats(watch=[disk.parent], **task(place, source, source_policy="if_changed"))
    assert disk.read_bytes() == guest_bytes(source, "qcow2")


def test_a_killed_run_leaves_a_part_and_the_next_run_says_so(tmp_path: Path, disk: Path) -> None:
    source = create(tmp_path / "source.qcow2", "qcow2", "8M")
    scribble(source, "qcow2", ((0x11, 0, 7 * MIB),))
    before = digest(disk)
    with nbdkit(tmp_path / "slow", "--filter=delay", "file", str(disk), "delay-write=1500ms") as place:
        run = process("disk_image", **task(place, source))
        wait_until(lambda: digest(disk) != before, "something is written")
        run.kill()
        run.communicate()
    with nbdkit(tmp_path / "s", "file", str(disk)) as place:
        refused("exists_different", watch=[disk.parent], **task(place, source))
        four_beats(watch=[disk.parent], **task(place, source, source_policy="if_changed"))
    assert disk.read_bytes() == guest_bytes(source, "qcow2")


def test_a_source_that_is_being_written_is_refused(tmp_path: Path, place: str, disk: Path) -> None:
    source = create(tmp_path / "source.qcow2", "qcow2", "8M")
    with exported(source, "qcow2", tmp_path / "w"):
        refused("image_in_use", watch=[disk.parent], **task(place, source))


def test_a_read_only_export_stays_as_it_is(tmp_path: Path, disk: Path, source: Path) -> None:
    before = digest(disk)
    with exported(disk, "raw", tmp_path / "s", "-r", *SERVED):
        result = call("disk_image", **task(f"nbd+unix:///disk?socket={tmp_path / 's'}", source))
    assert (result["failed"], digest(disk)) == (True, before)


def test_places_that_are_no_exports_are_not_written(source: Path) -> None:
    for place in ("ssh://127.0.0.1/srv/disk", "http://127.0.0.1/disk"):
        refused("place_not_writable", **task(place, source))


def test_the_facts_of_an_export_are_told(place: str, disk: Path) -> None:
    prepared("disk_image", path=place, format="qcow2", size="4M")
    (told,) = call("disk_image_info", paths=[place], format="qcow2")["images"]
    assert (told["path"], told["format"], told["virtual_size"]) == (place, "qcow2", 4 * MIB)
    subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", kept(disk)], check=True)
