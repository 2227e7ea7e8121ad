"""NBD servers that answer each reader otherwise, as anybody on the way can make a sound one seem to do."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.platter.qemu.plugins.module_utils._tools import build_directory, file_system
from ansible_collections.platter.qemu.tests.lab.guest import MIB, scribble
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.two_faced import two_faced


def test_a_server_that_shows_another_header_has_no_file_overwritten(tmp_path: Path) -> None:
    other, precious = tmp_path / "other", tmp_path / "precious"
    create(other, "qcow2", "4M", f"data_file={precious}")
    precious.write_bytes(b"as it was")
    source = create(tmp_path / "source", "raw", "4M")
    scribble(source, "raw")
    with two_faced(tmp_path / "s", other.read_bytes().ljust(8 * MIB, b"\0")):
        given = {"path": str(source), "format": "raw"}
        result = call("disk_image", path=f"nbd+unix:///?socket={tmp_path / 's'}", format="qcow2", source=given)
    assert (result["failed"], result["reason"]) == (True, "image_references_file"), result
    assert precious.read_bytes() == b"as it was"


def test_what_a_killed_run_has_built_for_an_export_is_removed(tmp_path: Path) -> None:
    place = f"nbd+unix:///?socket={tmp_path / 's'}"
    with build_directory.BuildDirectory(file_system.build_place(place)) as killed:
        killed.keep = True
    with two_faced(tmp_path / "s", bytes(MIB)):
        result = call("disk_image", path=place, format="raw")
    assert result["removed_leftovers"] == [killed.directory], result
