"""Images of other formats, and exports of NBD servers, as block devices by a server of QEMU's and FUSE."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._device import guard
from ansible_collections.platter.qemu.tests.lab import devices, led, tls
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.guest import MIB, guest_bytes, scribble, shows
from ansible_collections.platter.qemu.tests.lab.loops import HAVE_LOOPS, detach, mounted
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img
from ansible_collections.platter.qemu.tests.lab.programs import (
    answers_nbd,
    exported,
    running,
    stand_still,
    wait_until,
)

HAVE_FUSE = os.path.exists("/dev/fuse")
pytestmark = pytest.mark.skipif(not (HAVE_LOOPS and HAVE_FUSE), reason="needs root, loop devices and FUSE")
SMALL = ((0x11, 0, 64 << 10), (0x33, 2 * MIB, 64 << 10))


@pytest.fixture
def name() -> Iterator[str]:
    name = devices.new_name()
    with devices.cleaned(name):
        yield name


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A qcow2 image of 8 MiB with patterns in it."""
    (tmp_path / "images").mkdir()
    path = create(tmp_path / "images" / "web1.qcow2", "qcow2", "8M")
    scribble(path, "qcow2", SMALL)
    return path


def asked(name: str, image: Path, **more: Any) -> dict[str, Any]:
    return {"name": name, "source": str(image), "format": image.suffix[1:], **more}


def server_of(name: str) -> int:
    """Of the device."""
    found = devices.servers(name)
    assert len(found) == 1, found
    return found[0]


# --- images


def test_an_image_is_read_as_its_guest_reads_it(name: str, image: Path) -> None:
    real = four_beats(**asked(name, image))
    told = devices.losetup(devices.link(name))
    assert told and bool(int(told["ro"]))
    assert Path(devices.link(name)).read_bytes() == guest_bytes(image, "qcow2")
    assert real["device"]["pid"] == server_of(name)
    with pytest.raises(AssertionError, match='Failed to get "write" lock'):
        scribble(image, "qcow2", SMALL)
    four_beats(source=str(image), name=name, state="absent")
    scribble(image, "qcow2", SMALL)


def test_what_is_written_is_in_the_image_when_the_device_has_gone(name: str, image: Path, tmp_path: Path) -> None:
    four_beats(**asked(name, image, read_only=False, direct_io=True))
    subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0", devices.link(name)], check=True)
    (tmp_path / "mnt").mkdir()
    with mounted(devices.link(name), tmp_path / "mnt"):
        subprocess.run(["sync", "-f", tmp_path / "mnt"], check=True)  # else the kernel itself writes meanwhile
        refused("device_busy", source=str(image), name=name, state="absent")
        (tmp_path / "mnt" / "file").write_bytes(b"\x77" * MIB)
    # the file system writes when the last namespace has unmounted it: also of those that others have made meanwhile
    wait_until(lambda: devices.is_free(name), "nobody has it mounted")
    subprocess.run(["blockdev", "--flushbufs", devices.link(name)], check=True)
    four_beats(source=str(image), name=name, state="absent")
    qemu_img("check", "-f", "qcow2", image)
    assert b"\x77" * MIB in guest_bytes(image, "qcow2")
    four_beats(**asked(name, image, identity={"signature": ["ext4"]}))
    with mounted(devices.link(name), tmp_path / "mnt", "-o", "ro,noload"):
        assert (tmp_path / "mnt" / "file").read_bytes() == b"\x77" * MIB


@pytest.mark.parametrize("format", ["vmdk", "vdi", "vhdx"])
def test_disks_of_other_hypervisors(format: str, name: str, image: Path) -> None:
    path = image.with_suffix("." + format)
    qemu_img("convert", "-f", "qcow2", "-O", format, image, path)
    prepared("host_device", **asked(name, path))
    assert Path(devices.link(name)).read_bytes() == guest_bytes(path, format)


def test_an_overlay_and_a_part_of_it(name: str, image: Path) -> None:
    overlay = create(image.with_name("overlay.qcow2"), "qcow2", "", "", "-b", image, "-F", "qcow2")
    refused("has_overlays", **asked(name, image, read_only=False))
    four_beats(**asked(name, overlay, read_only=False, offset="1M", size="2M", sector_size=4096))
    with open(devices.link(name), "r+b") as device:
        device.write(b"\x44" * 65536)
    four_beats(source=str(overlay), name=name, state="absent")
    shows(overlay, "qcow2", ((0x11, 0, 64 << 10), (0x44, MIB, 65536), (0x33, 2 * MIB, 64 << 10)))
    shows(image, "qcow2", SMALL)


def test_what_is_on_the_disk_counts_and_not_what_is_in_the_file(name: str, image: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(bytes(8 * MIB))
    subprocess.run(["mkfs.ext4", "-q", "-U", "random", raw], check=True)
    qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, image)
    assert "ext4 UUID" in refused("signature_present", **asked(name, image))["msg"]
    refused("identity_mismatch", **asked(name, image, identity={"signature": ["xfs"]}))
    assert not devices.servers(name)
    prepared("host_device", **asked(name, image, identity={"signature": ["ext4"]}))
    # what it is is told by the device from now on, also for other options
    real = four_beats(**asked(name, image, identity={"signature": ["ext4"]}, read_only=False))
    assert "another read_only" in real["actions"][0]


# --- images that cannot be trusted


def test_a_disk_is_what_the_task_says_and_whole(name: str, image: Path) -> None:
    refused("format_mismatch", **{**asked(name, image), "format": "vdi"})
    locked = image.with_name("locked.qcow2")
    secret = image.with_name("secret")
    secret.write_text("secret")
    qemu_img(
        *("create", "-q", "-f", "qcow2", "--object", f"secret,id=s,file={secret}"),
        *("-o", "encrypt.format=aes,encrypt.key-secret=s", locked, "1M"),
    )
    refused("image_encrypted", **asked(name, locked))
    overlay = create(image.with_name("overlay.qcow2"), "qcow2", "", "", "-b", image, "-F", "qcow2")
    image.unlink()
    refused("base_missing", **asked(name, overlay))


def test_root_is_led_to_no_other_host_and_no_file_of_its_own(name: str, image: Path) -> None:
    away = image.with_name("away.qcow2")
    qemu_img("create", "-q", "-f", "qcow2", "-u", "-b", "nbd://127.0.0.1:1/x", "-F", "raw", away, "1M")
    refused("backing_protocol_refused", **asked(name, away))
    with led.place_of_roots() as place:
        path = led.led(place / "image.qcow2", place / "secret")
        told = refused("image_references_file", **asked(name, path))
        assert told["evidence"]["file"] == str(place / "secret")


# --- its server


def test_a_device_whose_server_was_killed_is_attached_again(
    name: str, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "_GLANCE_SECONDS", 0.1)
    task = asked(name, image, read_only=False)
    prepared("host_device", **task)
    with open(devices.link(name), "r+b", buffering=0) as device:
        os.kill(server_of(name), signal.SIGKILL)
        devices.wait_for_servers(name, 0)
        device.write(bytes(4096))
    with devices.held(name):
        refused("device_busy", **task)
    four_beats(**task)
    four_beats(source=str(image), name=name, state="absent")
    prepared("host_device", **asked(name, image))
    assert Path(devices.link(name)).read_bytes() == guest_bytes(image, "qcow2")


def test_a_server_that_is_stopped_stops_nobody_else(name: str, image: Path) -> None:
    prepared("host_device", **asked(name, image))
    server = server_of(name)
    stand_still(server)
    try:
        told = refused("device_unresponsive", source=str(image), name=name, state="absent")
        refused("device_unresponsive", **asked(name, image, read_only=False))
        settled(**asked(name, image))
        other = image.with_name("other.raw")
        assert call("disk_image", path=str(other), format="raw", size="1M")["changed"]
        assert call("disk_image", path=str(other), format="raw", size="2M")["changed"]
    finally:
        os.kill(server, signal.SIGCONT)
    assert told["evidence"]["pids"] == [server]
    four_beats(source=str(image), name=name, state="absent")


def test_a_server_that_is_left_is_ended(name: str, image: Path) -> None:
    prepared("host_device", **asked(name, image))
    detach(os.path.realpath(devices.link(name)))
    four_beats(source=str(image), name=name, state="absent")
    assert not devices.servers(name)


def test_without_the_server_or_fuse_it_says_so(
    name: str, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    for program in ("qemu-io", "prlimit", "unshare", "setpriv", "sh", "mount"):
        (tmp_path / "bin" / program).symlink_to(str(shutil.which(program)))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    refused("tool_missing", **asked(name, image))


# --- exports of NBD servers


@contextlib.contextmanager
def serving(image: Path, place: Path, *options: str) -> Iterator[str]:
    with exported(image, "qcow2", place, "--export-name=web1", *options):
        yield f"nbd+unix:///web1?socket={place}"


def test_an_export_is_a_device(name: str, image: Path, tmp_path: Path) -> None:
    with serving(image, tmp_path / "socket", "--shared=0") as uri:
        real = four_beats(name=name, source=uri, read_only=False, identity={"size": "8M", "signature": ["none"]})
        assert (real["device"]["source"], real["device"]["size"]) == (uri, 8 * MIB)
        with open(devices.link(name), "r+b") as device:
            device.write(b"\x44" * 65536)
        four_beats(name=name, source=uri, state="absent")
    shows(image, "qcow2", ((0x44, 0, 65536), SMALL[1]))


def test_what_was_sent_to_the_server_before_is_waited_for(name: str, image: Path) -> None:
    with unread_connection() as (port, unread):
        task = {"name": name, "source": f"nbd://127.0.0.1:{port}/web1"}
        words = ("-t", "-f", "qcow2", "-b", "127.0.0.1", "-p", port, "--shared=0", "--export-name=web1", image)
        with running("qemu-nbd", *words):
            wait_until(lambda: answers_nbd(("127.0.0.1", port)), "qemu-nbd serves")
            for seconds in (5, 30, 120):  # within which it has to come as far as that
                late = call("host_device", **task, read_only=False, timeout=seconds)
                assert (late.get("reason"), late["changed"]) == ("device_timeout", False), late
                if "before is still on its way" in late["msg"]:
                    break
            assert "before is still on its way" in late["msg"]
            prepared("host_device", **task)
            prepared("host_device", **task, state="absent")
            unread.close()
            four_beats(**task, read_only=False)


@contextlib.contextmanager
def unread_connection() -> Iterator[tuple[int, socket.socket]]:
    """A port, to which something was sent by who has left, and its end of that connection, which has not read it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        port = listener.getsockname()[1]
        sender = socket.create_connection(("127.0.0.1", port))
        unread = listener.accept()[0]
    with sender, unread:
        sender.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                sender.send(bytes(MIB))
        sender.close()
        yield port, unread


def test_that_the_server_of_an_export_has_gone_is_noticed(name: str, image: Path, tmp_path: Path) -> None:
    with serving(image, tmp_path / "socket", "--shared=0", "--read-only") as uri:
        prepared("host_device", name=name, source=uri)
    assert call("host_device", name=name, source=uri)["reason"] == "place_unreachable"
    (tmp_path / "socket").unlink(missing_ok=True)
    with serving(image, tmp_path / "socket", "--shared=0", "--read-only"):
        mended = four_beats(name=name, source=uri)
        assert "its server has ended" in mended["actions"][0]
        assert Path(devices.link(name)).read_bytes()[:65536] == b"\x11" * 65536


def test_the_wrong_export_is_not_attached(name: str, image: Path, tmp_path: Path) -> None:
    with serving(image, tmp_path / "socket", "--read-only") as uri:
        refused("identity_mismatch", name=name, source=uri, identity={"size": "20G"})
        refused("export_read_only", name=name, source=uri, read_only=False)
        failed = call("host_device", name=name, source=uri.replace("web1", "web2"))
        assert failed["reason"] == "export_missing"
    assert call("host_device", name=name, source=uri)["reason"] == "place_unreachable"
    refused("bad_option", name=name, source="nbds://127.0.0.1/web1")
    refused("bad_option", name=name, source=uri, tls_certificates="/x")


def test_an_export_over_tls(name: str, image: Path, tmp_path: Path) -> None:
    made, disk = tls.certificates(tmp_path), guest_bytes(image, "qcow2")
    words = ("--object", f"tls-creds-x509,id=t,endpoint=server,dir={made.server},verify-peer=yes", "--tls-creds=t")
    with serving(image, tmp_path / "socket", "--shared=0", *words) as uri:
        task = {"name": name, "source": uri.replace("nbd", "nbds", 1), "tls_hostname": "localhost"}
        assert call("host_device", **task, tls_certificates=str(made.foreign))["reason"] == "tls_failed"
        four_beats(**task, tls_certificates=str(made.client))
        assert Path(devices.link(name)).read_bytes() == disk


def test_an_export_with_a_key(name: str, image: Path, tmp_path: Path) -> None:
    keys, disk = tls.psk_file(tmp_path / "keys"), guest_bytes(image, "qcow2")
    words = ("--object", f"tls-creds-psk,id=t,endpoint=server,dir={keys.parent}", "--tls-creds=t")
    with serving(image, tmp_path / "socket", "--shared=0", *words) as uri:
        four_beats(name=name, source=uri.replace("nbd", "nbds", 1), tls_psk_file=str(keys))
        assert Path(devices.link(name)).read_bytes() == disk
