"""Images and exports as devices of the kernel's own NBD client, in a guest whose kernel has it."""

from __future__ import annotations

from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.tests.lab.amounts import generator
from ansible_collections.platter.qemu.tests.lab.device_guest import DeviceGuest, running_devices
from ansible_collections.platter.qemu.tests.lab.shared_guest import SharedGuest, shared

pytestmark = [pytest.mark.soak, pytest.mark.xdist_group("nbd guest")]
MIB = 1 << 20
IMAGE = "/images/web1.qcow2"
LINK = "/dev/platter/web1"
PLACES = "/dev/platter /run/platter.qemu/devices"
TASK: dict[str, Any] = {"name": "web1", "source": IMAGE, "format": "qcow2"}


@pytest.fixture(scope="module")
def one_for_all(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SharedGuest[DeviceGuest]]:
    with shared(request.session, lambda: running_devices(tmp_path_factory.mktemp("guest"))) as made:
        yield made


@pytest.fixture
def guest(one_for_all: SharedGuest[DeviceGuest]) -> Iterator[DeviceGuest]:
    """With an image of 8 MiB whose second MiB holds 0x5a, and no devices."""
    booted = one_for_all.get()
    booted.run(f"rm -f /images/*; qemu-img create -q -f qcow2 {IMAGE} 8M")
    booted.run(f"qemu-io -f qcow2 -c 'write -P 0x5a 1M 1M' {IMAGE}")
    yield booted
    booted.run("umount /mnt 2>/dev/null; killall -q -CONT qemu-storage-daemon qemu-nbd; true")
    told = booted.call(devices=[{"name": "web1"}, {"name": "web2"}], state="absent")
    booted.run("killall -q qemu-nbd; true")
    assert not told.get("failed"), told["msg"]
    assert not booted.run(f"find {PLACES} -mindepth 1 2>/dev/null; cat /sys/block/nbd*/backend 2>/dev/null; true")


def done(guest: DeviceGuest, **task: Any) -> dict[str, Any]:
    """Four beats."""
    checked = guest.call(check=True, **task)
    real = guest.call(**task)
    for result in (checked, real):
        assert not result.get("failed") and result["changed"], result.get("msg", result)
    assert checked["actions"] == real["actions"]
    for check in (False, True):
        again = guest.call(check=check, **task)
        assert not again.get("failed") and not again["changed"], again
    return real


def refused(guest: DeviceGuest, reason: str, **task: Any) -> str:
    """The message."""
    told = guest.call(**task)
    assert (told.get("reason"), told["changed"]) == (reason, False), told.get("msg", told)
    return str(told["msg"])


def pattern(guest: DeviceGuest, byte: int, offset: int, device: str = LINK) -> bool:
    """Whether there is a MiB of it at an offset in MiB, by QEMU."""
    said = guest.run(f"qemu-io -r -f raw -c 'read -P {byte} {offset}M 1M' {device} || true")
    return "verification failed" not in said and "1 MiB" in said


def test_an_image_is_a_device_of_the_kernels_client(guest: DeviceGuest) -> None:
    real = done(guest, **TASK)
    assert (real["device"]["kind"], real["device"]["path"][:8]) == ("nbd", "/dev/nbd"), real
    assert int(guest.run(f"blockdev --getsize64 {LINK}")) == 8 * MIB
    assert guest.run(f"blockdev --getro {LINK}").strip() == "1"
    assert pattern(guest, 0x5A, 1) and pattern(guest, 0, 2)
    assert 'Failed to get "write" lock' in guest.run(f"qemu-io -f qcow2 -c 'write 0 512' {IMAGE} 2>&1; true")
    done(guest, name="web1", source=IMAGE, state="absent")
    assert "failed" not in guest.run(f"qemu-io -f qcow2 -c 'write 0 512' {IMAGE} 2>&1")


def test_a_file_system_on_it_is_in_the_image_and_keeps_the_device(guest: DeviceGuest) -> None:
    done(guest, **TASK, read_only=False)
    guest.run(f"/sbin/mke2fs -q -t ext4 {LINK} && mount -t ext4 {LINK} /mnt && echo hello >/mnt/file")
    assert "mount /mnt" in refused(guest, "device_busy", name="web1", state="absent")
    guest.run("umount /mnt")
    assert guest.call(name="web1", state="absent")["changed"]
    assert "No errors" in guest.run(f"qemu-img check -f qcow2 {IMAGE}")
    refused(guest, "signature_present", **TASK)
    done(guest, **TASK, identity={"signature": ["ext4"]})
    assert guest.run(f"mount -t ext4 -o ro,noload {LINK} /mnt && cat /mnt/file").strip() == "hello"


def test_partitions_are_there_when_the_task_is_done(guest: DeviceGuest) -> None:
    guest.run("qemu-img convert -f qcow2 -O raw %s /images/raw" % IMAGE)
    table = "label: gpt\\nstart=2048, size=4096\\nstart=8192, size=2048\\n"
    guest.run(f"printf '{table}' | sfdisk -q /images/raw; qemu-img convert -f raw -O qcow2 /images/raw {IMAGE}")
    for _time in range(5):
        parts = guest.call(**TASK)["device"]["partitions"]
        assert [(part["number"], part["start"], part["size"]) for part in parts] == [
            (1, MIB, 2 * MIB),
            (2, 4 * MIB, MIB),
        ]
        assert pattern(guest, 0x5A, 0, parts[0]["path"])
        assert guest.call(name="web1", state="absent")["changed"]


def test_a_part_of_it_and_a_device_of_ones_own_choice(guest: DeviceGuest) -> None:
    real = done(guest, **TASK, offset="1M", size="1M", device="/dev/nbd5", sector_size=4096)
    assert (real["device"]["path"], real["device"]["size"]) == ("/dev/nbd5", MIB)
    assert guest.run("blockdev --getss /dev/nbd5").strip() == "4096"
    assert pattern(guest, 0x5A, 0)
    guest.run("qemu-img create -q -f qcow2 /images/web2.qcow2 1M")
    other = {"name": "web2", "source": "/images/web2.qcow2", "format": "qcow2"}
    refused(guest, "device_taken", **other, device="/dev/nbd5")
    done(guest, **TASK, offset="2M", size="1M", device="/dev/nbd6")
    assert pattern(guest, 0, 0)


def test_a_raw_image_if_it_is_asked_for(guest: DeviceGuest) -> None:
    guest.run(f"qemu-img convert -f qcow2 -O raw {IMAGE} /images/raw")
    real = done(guest, name="web1", source="/images/raw", format="raw", device="/dev/nbd3", read_only=False)
    assert (real["device"]["path"], real["device"]["kind"]) == ("/dev/nbd3", "nbd")
    guest.run(f"dd if=/dev/zero of={LINK} bs=1M count=1 seek=1 conv=notrunc,fsync 2>&1")
    done(guest, name="web1", source="/images/raw", state="absent")
    assert pattern(guest, 0, 1, "/images/raw")


def serve(guest: DeviceGuest, *more: str) -> str:
    """An NBD server in the guest; the URI of its export."""
    words = " ".join(("--persistent", "--fork", "--shared=0", "--export-name=web1", "--bind=127.0.0.1", *more))
    guest.run(f"qemu-nbd {words} -f qcow2 {IMAGE}")
    return "nbd://127.0.0.1/web1"


def test_an_export_needs_no_process_and_its_end_is_noticed(guest: DeviceGuest) -> None:
    uri = serve(guest)
    real = done(guest, name="web1", source=uri, read_only=False, identity={"size": "8M", "signature": ["none"]})
    assert (real["device"]["kind"], real["device"].get("pid")) == ("nbd", None)
    guest.run(f"dd if=/dev/zero of={LINK} bs=1M count=1 seek=1 conv=notrunc,fsync 2>&1")
    refused(guest, "name_taken", name="web1", source=uri.replace("web1", "web2"), state="absent")
    guest.run(f"killall -KILL qemu-nbd; dd if=/dev/zero of={LINK} bs=4096 count=1 conv=notrunc 2>&1; true")
    refused(guest, "place_unreachable", name="web1", source=uri, read_only=False)
    serve(guest)
    mended = done(guest, name="web1", source=uri, read_only=False)
    assert "its server has ended" in mended["actions"][0]
    assert pattern(guest, 0, 1)
    done(guest, name="web1", source=uri, state="absent")


def test_a_device_whose_server_was_killed_is_attached_again(guest: DeviceGuest) -> None:
    guest.call(**TASK)
    guest.run("killall -KILL qemu-storage-daemon; sleep 1")
    mended = done(guest, **TASK)
    assert "its server has ended" in mended["actions"][0], mended
    assert pattern(guest, 0x5A, 1)
    guest.run("killall -STOP qemu-storage-daemon")
    refused(guest, "device_unresponsive", name="web1", state="absent")


def test_where_it_is_not_wanted_a_loop_device_does_it(guest: DeviceGuest) -> None:
    real = done(guest, **TASK, device="/dev/loop2")
    assert (real["device"]["kind"], real["device"]["path"]) == ("fuse", "/dev/loop2")
    # and that stays, if nothing else is asked
    assert guest.call(**TASK)["device"]["kind"] == "fuse"
    assert pattern(guest, 0x5A, 1)


def test_killed_at_any_moment_the_next_run_converges(guest: DeviceGuest) -> None:
    dice = generator("kernel nbd")
    for number in range(12):
        task = dict(TASK) if number % 2 == 0 else {"name": "web1", "state": "absent"}
        guest.call(killed_after=dice.uniform(0.05, 1.5), **task)
        told = guest.call(**task)
        assert not told.get("failed"), (number, told["msg"])
        assert not guest.call(**task)["changed"]
        there = guest.run("cat /sys/block/nbd*/backend 2>/dev/null; true").split("\n")[:-1]
        servers = guest.run("pidof qemu-storage-daemon || true").split()
        assert len(there) == len(servers) == (number % 2 == 0), (there, servers)


def test_a_silent_server_holds_nobody_for_longer_than_agreed(guest: DeviceGuest) -> None:
    uri = serve(guest)
    real = done(guest, name="web1", source=uri, read_only=False, io_timeout=3)
    assert real["device"]["io_timeout"] == 3
    guest.run("killall -STOP qemu-nbd")
    said = guest.run(f"timeout 60 dd if={LINK} of=/dev/null bs=4096 count=1 iflag=direct 2>&1; echo status $?")
    assert "Input/output error" in said and "status 1" in said, said
    told = guest.call(name="web1", state="absent")
    assert not told.get("failed") and told["changed"], told
    guest.run("killall -CONT qemu-nbd")


def test_a_silent_server_does_not_hold_the_task_that_detaches(guest: DeviceGuest) -> None:
    uri = serve(guest)
    done(guest, name="web1", source=uri, read_only=False)
    guest.run(f"dd if=/dev/zero of={LINK} bs=4096 count=1 conv=notrunc 2>&1 & sleep 0; wait")
    guest.run("killall -STOP qemu-nbd")
    refused(guest, "device_unresponsive", name="web1", state="absent", timeout=3)
    guest.run("killall -CONT qemu-nbd")
    told = guest.call(name="web1", state="absent")
    assert not told.get("failed") and told["changed"], told


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_udev_looks_at_them_as_well(guest: DeviceGuest, format: str) -> None:
    """It has a device open for a moment whenever something has come, or was written; and gives it names."""
    image = f"/images/disk.{format}"
    guest.run(f"qemu-img convert -f qcow2 -O {format} {IMAGE} {image}")
    task = {"name": "web1", "source": image, "format": format, "read_only": False}
    with guest.udev():
        done(guest, **task)
        guest.run(f"/sbin/mke2fs -q -t ext4 -U 11111111-2222-3333-4444-555555555555 {LINK} && udevadm settle")
        by_uuid = "/dev/disk/by-uuid/11111111-2222-3333-4444-555555555555"
        assert guest.run(f"readlink -f {LINK}") == guest.run(f"readlink -f {by_uuid}")
        for number in range(8):
            guest.run(f"dd if=/dev/zero of={LINK} bs=4096 count=1 seek={number + 1024} conv=notrunc,fsync 2>&1")
            assert done_at_once(guest, name="web1", state="absent")
            assert done_at_once(guest, **task, identity={"signature": ["ext4"]})
        done(guest, name="web1", state="absent")


def done_at_once(guest: DeviceGuest, **task: Any) -> bool:
    """Whether the first call changed something; it must not fail."""
    told = guest.call(**task)
    assert not told.get("failed"), told["msg"]
    return bool(told["changed"])
