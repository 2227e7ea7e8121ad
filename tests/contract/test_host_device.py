"""Raw images as loop devices, seen by losetup, lsblk, blkid, dd, mount, and QEMU."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._device import guard
from ansible_collections.platter.qemu.tests.lab import devices
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.defined import define, define_on, give_up, is_based, own_registry
from ansible_collections.platter.qemu.tests.lab.guest import MIB, scribble
from ansible_collections.platter.qemu.tests.lab.loops import HAVE_LOOPS, attached, detach, mounted, numbered
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE, exported

pytestmark = pytest.mark.skipif(not HAVE_LOOPS, reason="needs root and loop devices")


@pytest.fixture
def name() -> Iterator[str]:
    name = devices.new_name()
    with devices.cleaned(name):
        yield name


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A raw image of 8 MiB whose second MiB holds 0x5a."""
    (tmp_path / "images").mkdir()
    path = tmp_path / "images" / "data1.raw"
    with open(path, "wb") as stream:
        stream.truncate(8 * MIB)
        stream.seek(MIB)
        stream.write(b"\x5a" * MIB)
    return path


def asked(name: str, image: Path, **more: Any) -> dict[str, Any]:
    return {"name": name, "source": str(image), "format": "raw", **more}


def run(*argv: object, **how: Any) -> str:
    done = subprocess.run(list(map(str, argv)), check=True, stdout=subprocess.PIPE, text=True, timeout=DEADLINE, **how)
    return done.stdout


def _can_write(device: str) -> bool:
    argv = ["dd", "if=/dev/zero", "bs=512", "count=1", "conv=notrunc,fsync", f"of={device}"]
    return subprocess.run(argv, stderr=subprocess.DEVNULL, check=False).returncode == 0


# --- what the host sees


def test_an_image_is_a_device_that_is_only_read(name: str, image: Path) -> None:
    real = four_beats(**asked(name, image))
    device, told = real["device"], devices.losetup(devices.link(name))
    assert (device["link"], os.path.realpath(device["link"])) == (devices.link(name), device["path"])
    assert told and (told["back-file"], bool(int(told["ro"]))) == (str(image), True)
    assert Path(device["link"]).read_bytes() == image.read_bytes()
    assert not _can_write(device["path"])
    four_beats(source=str(image), name=name, state="absent")
    assert not devices.on_file(image)


def test_what_is_written_is_in_the_image_when_the_device_has_gone(name: str, image: Path) -> None:
    four_beats(**asked(name, image, read_only=False))
    run("dd", "if=/dev/zero", "bs=1M", "count=1", "seek=1", f"of={devices.link(name)}", stderr=subprocess.DEVNULL)
    four_beats(source=str(image), name=name, state="absent")
    assert image.read_bytes() == bytes(8 * MIB)


def test_a_part_of_an_image_with_large_sectors(name: str, image: Path) -> None:
    real = four_beats(**asked(name, image, offset="1M", size="512K", sector_size=4096, direct_io=True))
    told = devices.losetup(real["device"]["path"])
    assert told and (int(told["offset"]), int(told["sizelimit"])) == (MIB, MIB // 2)
    assert (int(told["log-sec"]), bool(int(told["dio"]))) == (4096, True)
    assert int(run("blockdev", "--getsize64", devices.link(name))) == real["device"]["size"] == MIB // 2
    assert Path(devices.link(name)).read_bytes() == b"\x5a" * (MIB // 2)
    four_beats(**asked(name, image, offset="2M", size="512K"))
    assert Path(devices.link(name)).read_bytes() == bytes(MIB // 2)


def test_partitions_can_be_mounted_at_once(name: str, image: Path, tmp_path: Path) -> None:
    table = "label: dos\nstart=2048, size=6144\nstart=8192, size=4096\n"
    subprocess.run(["sfdisk", "--quiet", image], input=table, check=True, text=True)
    real = four_beats(**asked(name, image, read_only=False, identity={"signature": ["dos"]}))
    seen = json.loads(run("sfdisk", "--json", real["device"]["path"]))["partitiontable"]["partitions"]
    told = [(part["path"], part["start"] // 512, part["size"] // 512) for part in real["device"]["partitions"]]
    assert told == [(part["node"], part["start"], part["size"]) for part in seen] and len(told) == 2
    run("mkfs.ext4", "-q", told[1][0])
    (tmp_path / "mnt").mkdir()
    with mounted(told[1][0], tmp_path / "mnt", "-o", "ro"):  # else the kernel itself writes to it in the end
        refusal = refused("device_busy", source=str(image), name=name, state="absent")
    assert f"mount {tmp_path}/mnt" in refusal["msg"]


def test_one_device_of_ones_own_choice(name: str, image: Path) -> None:
    with numbered() as device:
        run("losetup", device, image, "--read-only")
        try:
            taken = refused("device_taken", **asked(name, image, device=device))
            assert taken["evidence"] == {"source": str(image)}
        finally:
            detach(device)
        real = four_beats(**asked(name, image, device=device))
        assert real["device"]["path"] == device
        prepared("host_device", source=str(image), name=name, state="absent")


# --- who else uses the image


def test_while_it_is_attached_qemu_writes_nothing_to_the_image(name: str, image: Path) -> None:
    prepared("host_device", **asked(name, image))
    with pytest.raises(AssertionError, match='Failed to get "write" lock'):
        scribble(image, "raw")
    resized = call("disk_image", path=str(image), format="raw", size="16M")
    assert resized["reason"] == "image_in_use", resized
    qemu_img("convert", "-f", "raw", "-O", "raw", image, image.with_name("copy"))
    prepared("host_device", name=name, state="absent")
    scribble(image, "raw")


def test_an_image_that_qemu_writes_to_is_not_attached(name: str, image: Path, tmp_path: Path) -> None:
    with exported(image, "raw", tmp_path / "socket"):
        refusal = refused("image_in_use", **asked(name, image))
    assert "qemu-nbd" in refusal["msg"] and refusal["evidence"]["in_use_by"]
    assert not devices.on_file(image)


def test_an_image_that_others_read_is_attached_to_be_read(
    name: str, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "_GLANCE_SECONDS", 0.1)
    with exported(image, "raw", tmp_path / "socket", "--read-only"):
        refused("image_in_use", **asked(name, image, read_only=False))
        assert call("host_device", **asked(name, image))["changed"]


def test_a_base_is_not_attached_to_be_written_to(name: str, image: Path) -> None:
    create(image.with_name("overlay.qcow2"), "qcow2", "", "", "-b", image, "-F", "raw")
    refusal = refused("has_overlays", **asked(name, image, read_only=False))
    assert refusal["evidence"]["overlays"] == [str(image.with_name("overlay.qcow2"))]
    four_beats(**asked(name, image))


def test_a_base_of_a_vm_that_does_not_run_is_not_attached_to_be_written_to(
    name: str, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_registry(tmp_path, monkeypatch)
    (tmp_path / "elsewhere").mkdir()
    overlay = create(tmp_path / "elsewhere" / "overlay.qcow2", "qcow2", "", "", "-b", image, "-F", "raw")
    vm = define(tmp_path, overlay)
    refusal = refused("has_overlays", **asked(name, image, read_only=False))
    assert refusal["evidence"]["overlays"] == [str(overlay)]
    give_up(vm)
    assert call("host_device", **asked(name, image, read_only=False))["changed"]


def test_a_base_that_only_a_definition_names_is_not_attached_to_be_written_to(
    name: str, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_registry(tmp_path, monkeypatch)
    vm, overlay = define_on(tmp_path, image, "raw")
    refusal = refused("image_claimed", **asked(name, image, read_only=False))
    is_based(refusal, vm, image, overlay)
    assert "or set read_only: true" in refusal["msg"]
    four_beats(**asked(name, image))
    give_up(vm)
    four_beats(**asked(name, image, read_only=False))


def test_two_devices_of_one_disk_are_both_read_only(name: str, image: Path) -> None:
    other = devices.new_name()
    entries = [asked(name, image, read_only=False), asked(other, image)]
    with devices.cleaned(other):
        refused("image_in_use", devices=entries)
        four_beats(devices=[dict(entry, read_only=True) for entry in entries])
        assert len(devices.on_file(image)) == 2


# --- who uses the device


def test_a_device_that_is_mounted_stays_and_who_has_it_is_named(name: str, image: Path, tmp_path: Path) -> None:
    prepared("host_device", **asked(name, image, read_only=False))
    run("mkfs.ext4", "-q", devices.link(name))
    (tmp_path / "mnt").mkdir()
    with mounted(devices.link(name), tmp_path / "mnt", "-o", "ro"):  # else the kernel itself writes to it in the end
        settled(**asked(name, image, read_only=False))
        refusal = refused("device_busy", source=str(image), name=name, state="absent")
        refused("device_busy", **asked(name, image, identity={"signature": ["ext4"]}))
    assert f"mount {tmp_path}/mnt" in refusal["msg"]
    assert devices.losetup(devices.link(name))


def test_a_mount_that_lives_on_in_a_namespace_for_a_moment_is_waited_for(
    name: str, image: Path, tmp_path: Path
) -> None:
    prepared("host_device", **asked(name, image, read_only=False))
    run("mkfs.ext4", "-q", devices.link(name))
    for place in ("mnt", "other"):
        (tmp_path / place).mkdir()
    # nothing else lives on there: the mounts of tests beside this one are undone in it too
    alone = ["unshare", "--mount", "--propagation", "slave", "sh", "-ec"]
    inside = f"mount {devices.link(name)} {tmp_path}/other; echo; read word"
    with mounted(devices.link(name), tmp_path / "mnt"):
        other = subprocess.Popen([*alone, inside], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert other.stdout.read(1)
    ending = threading.Timer(0.3, other.communicate)
    ending.start()
    result = call("host_device", source=str(image), name=name, state="absent")
    ending.join()
    assert result["changed"] and not result.get("failed"), result


def test_a_device_that_a_program_has_open_stays(name: str, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_GLANCE_SECONDS", 0.1)
    prepared("host_device", **asked(name, image))
    with devices.held(name) as process:
        refusal = refused("device_busy", source=str(image), name=name, state="absent")
    assert refusal["evidence"]["in_use_by"][0]["pid"] == process.pid


def test_a_loop_device_on_the_device_keeps_it(name: str, image: Path) -> None:
    prepared("host_device", **asked(name, image))
    with attached(devices.link(name), "--read-only") as upper:
        refusal = refused("device_busy", source=str(image), name=name, state="absent")
    assert f"loop {upper}" in refusal["msg"]


# --- what is on it


def test_a_file_system_that_is_not_named_is_not_attached(name: str, image: Path) -> None:
    run("mkfs.ext4", "-q", image)
    uuid = run("blkid", "-o", "value", "-s", "UUID", image).strip()
    refusal = refused("signature_present", **asked(name, image))
    assert f"UUID {uuid}" in refusal["msg"] and "identity: {signature: [ext4]}" in refusal["msg"]
    assert not devices.on_file(image)
    wrong = refused("identity_mismatch", **asked(name, image, identity={"uuid": uuid[::-1]}))
    assert [each["uuid"] for each in wrong["evidence"]["contents"]] == [uuid]
    refused("identity_mismatch", **asked(name, image, identity={"signature": ["none"]}))
    refused("identity_mismatch", **asked(name, image, identity={"signature": ["ext4"], "size": "16M"}))
    four_beats(**asked(name, image, identity={"uuid": uuid.upper(), "size": "8M", "signature": ["ext4"]}))


def test_what_is_made_on_the_device_later_does_not_matter_to_it(name: str, image: Path) -> None:
    blank = asked(name, image, read_only=False, identity={"signature": ["none"]})
    four_beats(**blank)
    run("mkfs.ext4", "-q", devices.link(name))
    settled(**blank)


def test_only_the_first_time_it_is_told_to_be_blank(name: str, image: Path) -> None:
    """What makes a file system asks for that: a device is attached again after each start of the host."""
    task = asked(name, image, read_only=False, identity={"signature": ["none", "ext4"]})
    assert four_beats(**task)["device"]["contents"] == []
    assert call("host_device", **task)["device"]["contents"] is None
    run("mkfs.ext4", "-q", devices.link(name))
    assert "contents" not in four_beats(source=str(image), name=name, state="absent")["device"]
    assert four_beats(**task)["device"]["contents"] == ["ext4"]
    refused("identity_mismatch", **asked(name, image, size="1M", identity={"signature": ["none", "xfs"]}))


def test_only_the_part_that_is_attached_counts(name: str, image: Path) -> None:
    run("mkfs.ext4", "-q", "-E", "offset=4194304", image, "2M", stderr=subprocess.DEVNULL)
    refused("signature_present", **asked(name, image, offset="4M"))
    four_beats(**asked(name, image, size="4M"))


def test_an_image_of_another_format_is_no_blank_disk(name: str, tmp_path: Path) -> None:
    path = create(tmp_path / "disk", "qcow2", "8M")
    refused("signature_present", **asked(name, path, read_only=False))
    four_beats(**asked(name, path, identity={"signature": ["qcow2"]}))


# --- names, and what others do meanwhile


def test_a_name_that_was_not_given_takes_no_other_device_away(tmp_path: Path) -> None:
    own = devices.new_name()
    for directory in ("a", "b"):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / own).write_bytes(bytes(MIB))
    with devices.cleaned(own):
        four_beats(source=str(tmp_path / "a" / own), format="raw")
        refusal = refused("name_taken", source=str(tmp_path / "b" / own), format="raw")
        assert refusal["evidence"]["source"] == str(tmp_path / "a" / own)
        refused("name_taken", source=str(tmp_path / "b" / own), state="absent")
        four_beats(source=str(tmp_path / "b" / own), format="raw", name=own)
        assert not devices.on_file(tmp_path / "a" / own)


def test_a_device_follows_its_file_as_it_grows(name: str, image: Path) -> None:
    prepared("host_device", **asked(name, image))
    with open(image, "r+b") as stream:
        stream.truncate(12 * MIB)
    before = os.path.realpath(devices.link(name))
    with open(before, "rb"):
        real = four_beats(**asked(name, image))
        assert int(run("blockdev", "--getsize64", before)) == real["device"]["size"] == 12 * MIB
    assert os.path.realpath(devices.link(name)) == before


def test_a_file_that_has_taken_the_name_of_the_image_is_another_one(name: str, image: Path) -> None:
    prepared("host_device", **asked(name, image))
    new = image.with_name("new")
    new.write_bytes(b"\x77" * MIB)
    os.rename(new, image)
    four_beats(**asked(name, image))
    assert Path(devices.link(name)).read_bytes() == b"\x77" * MIB
    image.unlink()
    refused("image_missing", **asked(name, image))
    four_beats(source=str(image), name=name, state="absent")


def test_a_lost_link_and_a_lost_device_are_mended(name: str, image: Path) -> None:
    prepared("host_device", **asked(name, image))
    os.unlink(devices.link(name))
    mended = four_beats(**asked(name, image))
    assert [action.split()[0] for action in mended["actions"]] == ["Have"]
    detach(os.path.realpath(devices.link(name)))
    four_beats(**asked(name, image))
    detach(os.path.realpath(devices.link(name)))
    four_beats(source=str(image), name=name, state="absent")


def test_contradictions_and_duplicates_are_refused(name: str, image: Path) -> None:
    refused("bad_option", **asked(name, image, identity={"signature": ["none"], "uuid": "1-A"}))
    refused("bad_option", source=str(image), name=name)
    refused("bad_name", **asked("/x", image))
    refused("bad_path", **asked(name, Path("images/x")))
    refused("bad_size", **asked(name, image, offset="8M"))
    refused("image_missing", **asked(name, image.with_name("other")))
    refused("not_a_file", **asked(name, image.parent))
    refused("duplicate_item", devices=[asked(name, image), asked(name, image)])
