"""Sources that are no plain files: NBD servers, and file systems that share blocks."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused
from ansible_collections.platter.qemu.tests.lab.guest import MIB, facts, scribble, shows
from ansible_collections.platter.qemu.tests.lab.loops import HAVE_LOOPS, attached, mounted
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.programs import answers_nbd, exported, running, stand_still, wait_until

needs_loops = pytest.mark.skipif(not HAVE_LOOPS, reason="needs root and loop devices")
#: what an NBD server shows is not read before the import
UNKNOWN = ("virtual_size", "source")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = create(tmp_path / "disk.qcow2", "qcow2", "4M")
    scribble(path, "qcow2")
    return path


def unix(socket: Path, export: str = "") -> list[Any]:
    """The place in each way it can be written."""
    node = {"driver": "nbd", "export": export, "server": {"type": "unix", "path": str(socket)}}
    texts = [f"nbd+unix:///{export}?socket={socket}", "json:" + json.dumps(node)]
    return [*texts, node] + ([] if export else [f"nbd:unix:{socket}"])


@pytest.mark.parametrize("form", range(4))
def test_an_nbd_export_is_imported(tmp_path: Path, disk: Path, form: int) -> None:
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "image.qcow2"
    with exported(disk, "qcow2", tmp_path / "s", "-r", "-e", "8"):
        source = {"path": unix(tmp_path / "s")[form], "format": "raw"}
        four_beats(path=str(path), format="qcow2", source=source, unpredictable=UNKNOWN)
    shows(path, "qcow2")


@pytest.mark.parametrize("silent", ["connect", "read"])
def test_a_server_that_falls_silent_does_not_hold_the_task(tmp_path: Path, silent: str) -> None:
    """It does not answer at all; or all but the last reads, as a hostile one can."""
    (tmp_path / "out").mkdir()
    task = {"path": str(tmp_path / "out" / "image.qcow2"), "format": "qcow2"}
    source = {"path": unix(tmp_path / "s")[0], "format": "raw"}
    with contextlib.ExitStack() as servers:
        if silent == "connect":
            server = servers.enter_context(
                exported(create(tmp_path / "disk", "raw", "4M"), "raw", tmp_path / "s", "-e", "8")
            )
            stand_still(server.pid)
            servers.callback(server.send_signal, signal.SIGCONT)
        else:
            argv = ["nbdkit", "-f", "-U", tmp_path / "s", "eval", "get_size=echo 4194304", "pread=sleep 600; exit 1"]
            servers.enter_context(running(*argv, "can_extents=exit 3"))
            wait_until(lambda: answers_nbd(str(tmp_path / "s")), "nbdkit answers")
        for seconds in (1, 2, 10, 60):  # what comes before the reads has to be done within the same time
            result = call("disk_image", **task, source=source, tool_timeout=seconds)
            assert (result["failed"], result["changed"], result["reason"]) == (True, False, "tool_timeout"), result
            if ("convert" if silent == "read" else "info") in result["msg"]:
                break
    assert ("convert" if silent == "read" else "info") in result["msg"]
    assert not list((tmp_path / "out").iterdir())


def test_a_named_export_is_imported(tmp_path: Path, disk: Path) -> None:
    with exported(disk, "qcow2", tmp_path / "s", "-r", "-e", "8", "-x", "a name"):
        source = {"path": f"nbd+unix:///a%20name?socket={tmp_path / 's'}", "format": "raw"}
        four_beats(path=str(tmp_path / "image.vmdk"), format="vmdk", source=source, unpredictable=UNKNOWN)
    shows(tmp_path / "image.vmdk", "vmdk")


def test_an_image_inside_an_export_passes_the_same_gate(tmp_path: Path, disk: Path) -> None:
    (tmp_path / "out").mkdir()
    with exported(disk, "raw", tmp_path / "s", "-r", "-e", "8"):
        source = {"path": unix(tmp_path / "s")[0], "format": "qcow2"}
        path = str(tmp_path / "out" / "image.qcow2")
        four_beats(path=path, format="qcow2", source=source, unpredictable=UNKNOWN)
        shows(path, "qcow2")
    hostile = create(tmp_path / "hostile", "qcow2", "4M", "", "-u", "-b", "/etc/passwd", "-F", "raw")
    with exported(hostile, "raw", tmp_path / "t", "-r", "-e", "8"):
        source = {"path": unix(tmp_path / "t")[0], "format": "qcow2"}
        result = call("disk_image", path=str(tmp_path / "out" / "other"), format="qcow2", source=source)
    assert (result["reason"], result["changed"]) == ("image_references_file", False)
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["image.qcow2"]


def test_a_server_that_is_not_there_fails_without_a_change(tmp_path: Path) -> None:
    source = {"path": unix(tmp_path / "none")[0], "format": "raw"}
    result = call("disk_image", path=str(tmp_path / "image"), format="raw", source=source)
    assert (result["failed"], result["changed"]) == (True, False)
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_is_being_written_is_refused(tmp_path: Path, disk: Path) -> None:
    (tmp_path / "out").mkdir()
    path = str(tmp_path / "out" / "image")
    with exported(disk, "qcow2", tmp_path / "s"):
        refused("image_in_use", path=path, format="qcow2", source={"path": str(disk), "format": "qcow2"})


def test_a_source_that_is_only_read_is_imported(tmp_path: Path, disk: Path) -> None:
    (tmp_path / "out").mkdir()
    path = str(tmp_path / "out" / "image")
    with exported(disk, "qcow2", tmp_path / "s", "-r"):
        four_beats(path=path, format="qcow2", source={"path": str(disk), "format": "qcow2"})


# --- file systems


@pytest.fixture(params=["xfs", "btrfs"])
def sharing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system that can share blocks between files."""
    name = str(request.param)
    if not shutil.which(f"mkfs.{name}"):
        pytest.skip(f"mkfs.{name} is not installed")
    file, directory = create(tmp_path / "fs", "raw", "400M"), tmp_path / "mnt"
    directory.mkdir()
    make = ["mkfs.xfs", "-q", "-m", "reflink=1"] if name == "xfs" else ["mkfs.btrfs", "-q"]
    with attached(file) as device:
        subprocess.run([*make, device], check=True)
        with mounted(device, directory):
            yield directory


@needs_loops
@pytest.mark.xdist_group("loops")
def test_blocks_are_shared_where_the_file_system_can(sharing: Path) -> None:
    (sharing / "out").mkdir()
    source = create(sharing / "golden.qcow2", "qcow2", "64M", "preallocation=full")
    scribble(source, "qcow2")
    subprocess.run(["sync", "-f", sharing], check=True)
    before = shutil.disk_usage(sharing).free
    path = sharing / "out" / "image.qcow2"
    result = four_beats(path=str(path), format="qcow2", source={"path": str(source), "format": "qcow2"})
    assert result["method"] == "reflink"
    subprocess.run(["sync", "-f", sharing], check=True)
    assert before - shutil.disk_usage(sharing).free < 16 * MIB
    scribble(path, "qcow2", ((0x99, 0, MIB),))
    shows(source, "qcow2")


@needs_loops
@pytest.mark.xdist_group("loops")
def test_the_options_of_the_file_are_set_where_there_are_such(sharing: Path) -> None:
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", sharing], capture_output=True, text=True, check=True
    ).stdout.strip()
    (sharing / "out").mkdir()
    path = sharing / "out" / "disk.raw"
    options: dict[str, Any] = {"nocow": True} if kind == "btrfs" else {"extent_size_hint": "2M"}
    four_beats(path=str(path), format="raw", size="4M", options=options)
    if kind == "btrfs":
        told = subprocess.run(["lsattr", path], capture_output=True, text=True, check=True).stdout
        assert "C" in told.split()[0]
    else:
        told = subprocess.run(
            ["xfs_io", "-r", "-c", "extsize", path], capture_output=True, text=True, check=True
        ).stdout
        assert told.startswith(f"[{2 * MIB}]")
    assert facts(path, "raw")["virtual-size"] == 4 * MIB


@needs_loops
@pytest.mark.xdist_group("loops")
def test_what_takes_its_bytes_at_once_must_fit(tmp_path: Path) -> None:
    """Each alone would fit, both together do not; what takes none, however large, does."""
    file, directory = create(tmp_path / "fs", "raw", "96M"), tmp_path / "mnt"
    directory.mkdir()
    with attached(file) as device:
        subprocess.run(["mkfs.ext4", "-q", device], check=True)
        with mounted(device, directory):
            full, falloc = {"preallocation": "full"}, {"preallocation": "falloc"}
            given = [("a", "raw", "32M", full), ("b", "qcow2", "32M", falloc), ("c", "raw", "900M", {})]
            images = [
                {"path": str(directory / name), "format": format, "size": size, "options": options}
                for name, format, size, options in given
            ]
            refused("would_exceed_space", images=images)
            assert [entry.name for entry in directory.iterdir()] == ["lost+found"]
            four_beats(images=[images[0], images[2]])


def test_a_full_file_system_is_foreseen(tmp_path: Path, disk: Path) -> None:
    file, directory = create(tmp_path / "fs", "raw", "32M"), tmp_path / "mnt"
    directory.mkdir()
    large = create(tmp_path / "large.raw", "raw", "64M")
    scribble(large, "raw", ((0x11, 0, 40 * MIB),))
    with attached(file) as device:
        subprocess.run(["mkfs.ext4", "-q", device], check=True)
        with mounted(device, directory):
            result = call(
                "disk_image",
                path=str(directory / "image"),
                format="qcow2",
                source={"path": str(large), "format": "raw"},
            )
            assert (result["reason"], result["changed"]) == ("would_exceed_space", False)
            assert [entry.name for entry in directory.iterdir()] == ["lost+found"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")
def test_there_has_to_be_room_for_the_bytes_of_another_host(tmp_path: Path) -> None:
    """They are fetched as they are first, so that our own parser sees the image before QEMU does."""
    disk = create(tmp_path / "disk.qcow2", "qcow2", "64M")
    scribble(disk, "qcow2", ((0x11, 0, 40 << 20),))
    small = tmp_path / "small"
    small.mkdir()
    place = f"nbd+unix:///?socket={tmp_path / 's'}"
    with mounted("tmpfs", small, "-t", "tmpfs", "-o", "size=32m"), exported(disk, "raw", tmp_path / "s", "-r"):
        result = call("disk_image", path=str(small / "new"), format="qcow2", source={"path": place, "format": "qcow2"})
        assert (result["reason"], result["changed"]) == ("would_exceed_space", False)
        assert list(small.iterdir()) == []
