"""Ways that a reviewer found to lose data or to be led astray, each closed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.tests.lab.http_server import Resource, serving
from ansible_collections.platter.qemu.tests.lab.loops import HAVE_LOOPS, attached
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared

MIB = 1 << 20


def qemu_io(path: Path, *commands: str, format: str = "qcow2") -> None:
    """Commands of qemu-io that must succeed."""
    options = [word for command in commands for word in ("-c", command)]
    done = subprocess.run(["qemu-io", "-f", format, *options, path], check=True, capture_output=True, text=True)
    assert "failed" not in done.stdout, done.stdout


@contextlib.contextmanager
def held(path: object) -> Iterator[subprocess.Popen[bytes]]:
    """A program that has the file open for writing while the block runs."""
    with open(str(path), "r+b") as stream, subprocess.Popen(["sleep", "60"], stdin=stream) as holder:
        try:
            yield holder
        finally:
            holder.kill()


def chain(tmp_path: Path) -> tuple[Path, Path]:
    """A base of a known pattern, and an overlay on it."""
    base, overlay = tmp_path / "base.qcow2", tmp_path / "overlay.qcow2"
    prepared("disk_image", path=str(base), format="qcow2", size="4M")
    qemu_io(base, "write -P 0x11 0 1M")
    prepared("disk_image", path=str(overlay), format="qcow2", backing={"path": str(base), "format": "qcow2"})
    return base, overlay


def test_an_overlay_leaves_its_base_before_that_is_changed(tmp_path: Path) -> None:
    base, overlay = chain(tmp_path)
    leaving = {"path": str(overlay), "format": "qcow2", "flatten": True}
    result = call("disk_image", images=[{"path": str(base), "format": "qcow2", "size": "8M"}, leaving])
    assert result["actions"] == [result["images"][0]["actions"][0], result["images"][1]["actions"][0]]
    qemu_io(overlay, "read -P 0x11 0 1M")
    assert "backing" not in subprocess.check_output(["qemu-img", "info", overlay], text=True)


@pytest.mark.parametrize("more", [{"on_in_use": "skip"}, {}])
def test_a_base_is_not_removed_when_its_overlay_could_not_leave(tmp_path: Path, more: dict[str, Any]) -> None:
    base, overlay = chain(tmp_path)
    leaving = {"path": str(overlay), "format": "qcow2", "flatten": True, **more}
    with held(overlay):
        result = call("disk_image", images=[{"path": str(base), "state": "absent"}, leaving], fail_fast=False)
    assert result["failed"] and base.exists()
    qemu_io(overlay, "read -P 0x11 0 1M")


def test_what_happens_while_waiting_is_seen(tmp_path: Path) -> None:
    """A holder writes beyond the new end of a shrink, and leaves."""
    disk = tmp_path / "disk.raw"
    prepared("disk_image", path=str(disk), format="raw", size="4M")
    with held(disk) as holder:

        def write_and_leave() -> None:
            time.sleep(1.0)
            with disk.open("r+b") as stream:
                stream.seek(3 * MIB)
                stream.write(b"late data")
            holder.kill()
            holder.wait()

        thread = threading.Thread(target=write_and_leave)
        thread.start()
        shrink = {"path": str(disk), "format": "raw", "size": "1M", "allow_shrink": True}
        result = call("disk_image", **shrink, on_in_use="wait", wait_timeout=120)
        thread.join()
    assert result["reason"] == "shrink_cuts_data"
    assert disk.read_bytes()[3 * MIB : 3 * MIB + 9] == b"late data"


def test_a_data_file_of_a_renamed_image_is_not_emptied(tmp_path: Path) -> None:
    data, image = tmp_path / "data", tmp_path / "a"
    task = {"path": str(image), "format": "qcow2", "size": "4M", "options": {"data_file": str(data)}}
    prepared("disk_image", **task)
    qemu_io(image, "write -P 0x22 0 1M")
    assert call("disk_image", path=str(image), state="absent", backup=True)["reason"] == "backup_unsupported"
    assert call("disk_image", path=str(data), state="absent")["reason"] == "has_overlays"
    image.rename(tmp_path / "b")
    assert call("disk_image", **task)["reason"] == "member_exists"
    qemu_io(tmp_path / "b", "read -P 0x22 0 1M")


def test_a_guest_cannot_hide_its_overlay(tmp_path: Path) -> None:
    """A VHD footer at the end makes the bytes ambiguous."""
    base, overlay = chain(tmp_path)
    with overlay.open("ab") as stream:
        stream.write(b"conectix".ljust(512, b"\0"))
    os.removexattr(overlay, "user.platter.qemu")
    assert call("disk_image", path=str(base), state="absent")["reason"] == "has_overlays"


@pytest.mark.parametrize("format", ["qcow2", "raw", "vmdk"])
def test_an_import_cuts_nothing_without_consent(tmp_path: Path, format: str) -> None:
    source = tmp_path / "source.raw"
    source.write_bytes(bytes(3 * MIB) + os.urandom(MIB))
    task = {"path": str(tmp_path / "new"), "format": format, "size": "1M", "allow_shrink": True}
    task["source"] = {"path": str(source), "format": "raw"}
    assert call("disk_image", **task)["reason"] == "shrink_cuts_data"
    assert [call("disk_image", **task, discard_data=True)["changed"] for _again in range(2)] == [True, False]


def test_the_format_of_the_same_base_is_not_changed(tmp_path: Path) -> None:
    base, overlay = tmp_path / "base.img", tmp_path / "overlay"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", base, "4M"], check=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", overlay, "4M"], check=True)
    task = {"path": str(overlay), "format": "qcow2", "backing": {"path": str(base), "format": "qcow2"}}
    assert call("disk_image", **task)["reason"] == "format_mismatch"


@pytest.mark.skipif(not HAVE_LOOPS, reason="needs root and loop devices")
def test_a_device_that_is_used_or_not_quite_blank_is_not_written(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(8 * MIB))
    with attached(disk) as device:
        task = {"path": device, "format": "qcow2", "size": "4M"}
        with held(device):
            assert call("disk_image", **task)["reason"] == "image_in_use"
        with open(device, "r+b") as stream:
            stream.seek(4 * MIB)
            stream.write(b"PRECIOUS")
        assert call("disk_image", **task)["reason"] == "signature_present"


HOSTILE_NAMES = ["json:" + "[" * 1015, 'json:{"driver":"file","filename":"/\\u0000"}', "x" * 300]
HOSTILE_NAMES.append('json:{"driver":"file","filename":"/\\ud800"}')


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=range(4))
def test_a_hostile_backing_name_stops_nobody(tmp_path: Path, name: str) -> None:
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", name, "-F", "raw", tmp_path / "a", "1M"], check=True
    )
    other = {"path": str(tmp_path / "b"), "format": "qcow2"}
    assert call("disk_image", **other, size="1M")["changed"]
    assert call("disk_image", **other, size="2M")["changed"]
    assert call("disk_image", path=str(tmp_path / "a"), state="absent")["changed"]


@pytest.mark.parametrize(
    "record", ['{"base":"x"}', '{"options":"abc"}', '{"options":[1]}', '{"source":["x"]}', "[" * 2000]
)
def test_a_forged_record_is_not_believed(tmp_path: Path, record: str) -> None:
    task = {"path": str(tmp_path / "a"), "format": "qcow2"}
    prepared("disk_image", **task, size="1M")
    os.setxattr(task["path"], "user.platter.qemu", record.encode())
    assert call("disk_image", **task, size="2M")["changed"]


def test_what_needs_a_failed_image_is_not_begun(tmp_path: Path) -> None:
    """The checksum is wrong, which is known only when the source has been fetched."""
    base: dict[str, Any] = {"path": str(tmp_path / "base"), "format": "raw", "size": "1M"}
    overlay = {"path": str(tmp_path / "overlay"), "format": "qcow2", "backing": {"path": base["path"], "format": "raw"}}
    with serving() as site:
        site.resources["/disk.raw"] = Resource(bytes(MIB))
        base["source"] = {"url": site.url("/disk.raw"), "format": "raw", "checksum": "sha256:" + "0" * 64}
        result = call("disk_image", images=[base, overlay], fail_fast=False)
    assert result["images"][0]["reason"] == "checksum_mismatch"
    assert [each.get("reason") for each in result["images"]][1] == "needs_failed"
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_format_of_the_base_is_called_so(tmp_path: Path) -> None:
    base = tmp_path / "base.raw"
    base.write_bytes(bytes(MIB))
    task = {"path": str(tmp_path / "a"), "format": "qcow2", "backing": {"path": str(base), "format": "qcow2"}}
    assert call("disk_image", **task)["reason"] == "format_mismatch"


def test_a_rewrite_keeps_the_exact_size_of_a_vhd(tmp_path: Path) -> None:
    """Azure takes whole MiB only."""
    task = {"path": str(tmp_path / "a.vhd"), "format": "vpc"}
    prepared("disk_image", **task, size="64M", options={"subformat": "fixed", "force_size": True})
    assert call("disk_image", **task, size="128M", allow_rewrite=True)["image"]["virtual_size"] == 128 * MIB
    options = {"subformat": "fixed", "force_size": True}
    assert not call("disk_image", **task, size="128M", options=options)["changed"]


def test_what_lies_on_a_missing_base_is_refused_before_qemu_fails(tmp_path: Path) -> None:
    base, overlay = chain(tmp_path)
    base.unlink()
    grow = {"path": str(overlay), "format": "qcow2", "size": "8M"}
    assert [call("disk_image", check=check, **grow)["reason"] for check in (True, False)] == ["base_missing"] * 2
