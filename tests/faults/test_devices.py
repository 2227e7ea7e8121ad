"""Block devices of the host under kills, in races, and where the host has not got what they need."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab import devices, kills
from ansible_collections.platter.qemu.tests.lab.amounts import amount, share
from ansible_collections.platter.qemu.tests.lab.loops import HAVE_LOOPS, numbered
from ansible_collections.platter.qemu.tests.lab.modules import call, process
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE, listens, running, wait_until
from ansible_collections.platter.qemu.tests.lab.zygote import RACE_SECONDS, Zygote

pytestmark = pytest.mark.skipif(not HAVE_LOOPS, reason="needs loop devices")
Count = t.Callable[[str, int], None]
MIB = 1 << 20
#: all that the module does to the kernel's devices and to links goes through these
CALLS = ("ioctl", "symlink", "rename", "unlink", "rmdir", "mkdir")
#: and to servers; strace counts the calls of each process by itself
SERVER_CALLS = (*CALLS, "kill", "umount2", "clone3", "vfork", "wait4")
RACERS = 20


def blank(path: Path) -> Path:
    with open(path, "wb") as stream:
        stream.truncate(MIB)
    return path


def task(name: str, image: Path, **more: t.Any) -> dict[str, t.Any]:
    return {"name": name, "source": str(image), "format": "raw", "read_only": False, **more}


# --- twenty at once


def _together(zygote: Zygote, tasks: t.Sequence[dict[str, t.Any]]) -> list[dict[str, t.Any]]:
    patient = {"lock_timeout": RACE_SECONDS, "timeout": RACE_SECONDS}
    children = [zygote.start("host_device", {**each, **patient}, stopped=True) for each in tasks]
    for child in children:
        child.go_on()
    for child in children:
        child.wait()
    return [child.result() for child in children]


def test_twenty_at_once_get_a_device_each(zygote: Zygote, place: Path, count: Count) -> None:
    images = [blank(place / f"{number}.raw") for number in range(RACERS)]
    names = [devices.new_name() for _image in images]
    with devices.cleaned(*names):
        results = _together(zygote, [task(name, image) for name, image in zip(names, images)])
        assert [result.get("msg") for result in results] == [None] * RACERS
        assert len({result["device"]["path"] for result in results}) == RACERS
        for name, image, result in zip(names, images, results):
            assert devices.on_file(image) == [result["device"]["path"]] == [os.path.realpath(devices.link(name))]
    count("devices claimed at once", RACERS)


def test_of_twenty_that_ask_for_the_same_one_attaches_it(zygote: Zygote, place: Path) -> None:
    name, image = devices.new_name(), blank(place / "image.raw")
    with devices.cleaned(name):
        results = _together(zygote, [task(name, image)] * RACERS)
        assert [result.get("msg") for result in results] == [None] * RACERS
        assert sum(result["changed"] for result in results) == len(devices.on_file(image)) == 1


# --- kill -9


@pytest.mark.parametrize("verb", ["attach", "replace", "grow", "detach"])
def test_killed_at_any_step_the_next_run_converges(verb: str, zygote: Zygote, place: Path, count: Count) -> None:
    name, image, other = devices.new_name(), blank(place / "image.raw"), blank(place / "other.raw")
    wanted = {
        "attach": task(name, image),
        "replace": task(name, other),
        "grow": task(name, image),
        "detach": {"name": name, "state": "absent"},
    }[verb]

    def reset() -> None:
        call("host_device", name=name, state="absent")
        os.truncate(image, MIB)
        if verb != "attach":
            assert call("host_device", **task(name, image))["changed"]
        if verb == "grow":
            os.truncate(image, 2 * MIB)

    with devices.cleaned(name):
        reset()
        points = kills.points_of(zygote, wanted, place / "log", CALLS, "host_device")
        chosen = share(points, amount(4, len(points)), "devices " + verb)
        for point in chosen:
            reset()
            kills.killed_at(zygote, wanted, place / "log", point, "host_device")
            _converges(name, wanted, [image, other])
    count("kills of a device task", len(chosen))


@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="needs FUSE")
@pytest.mark.parametrize("verb", ["attach", "replace", "detach"])
def test_killed_at_any_step_of_a_server_the_next_run_converges(
    verb: str, zygote: Zygote, place: Path, count: Count
) -> None:
    name, image = devices.new_name(), create(place / "image.qcow2", "qcow2", "1M")
    attach = {**task(name, image), "format": "qcow2"}
    other = {**task(name, create(place / "other.qcow2", "qcow2", "2M")), "format": "qcow2"}
    wanted = {"attach": attach, "replace": other, "detach": {"name": name, "state": "absent"}}[verb]
    there, length = int(verb != "detach"), MIB if verb == "attach" else 2 * MIB

    def reset() -> None:
        call("host_device", name=name, state="absent")
        assert verb == "attach" or call("host_device", **attach)["changed"]

    with devices.cleaned(name):
        reset()
        points = kills.points_of(zygote, wanted, place / "log", SERVER_CALLS, "host_device")
        chosen = share(points, amount(3, len(points)), "servers of devices " + verb)
        for point in chosen:
            reset()
            kills.killed_at(zygote, wanted, place / "log", point, "host_device")
            result = call("host_device", **wanted)
            assert not result.get("failed"), (point, result["msg"])
            assert call("host_device", **wanted)["changed"] is False
            assert len(devices.servers(name)) == len(devices.marked(name)) == there
            assert os.path.isdir(f"/run/platter.qemu/devices/{name}") == there
            assert not there or _length(name) == length
    count("kills of a device task", len(chosen))


def _converges(name: str, wanted: dict[str, t.Any], images: t.Sequence[Path]) -> None:
    result = call("host_device", **wanted)
    assert not result.get("failed"), result["msg"]
    assert call("host_device", **wanted)["changed"] is False
    there = [path for image in images for path in devices.on_file(image)]
    assert there == devices.marked(name)
    if wanted.get("state") == "absent":
        assert not there and not os.path.lexists(devices.link(name))
    else:
        assert there == devices.on_file(wanted["source"]) == [os.path.realpath(devices.link(name))]
        assert _length(name) == os.path.getsize(wanted["source"])


def _length(name: str) -> int:
    with open(devices.link(name), "rb") as device:
        return device.seek(0, os.SEEK_END)


# --- servers that say nothing


@pytest.mark.soak
@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="needs FUSE")
def test_a_silent_server_does_not_hold_the_task_that_detaches(zygote: Zygote, place: Path) -> None:
    """Half a minute, as what waits for the kernel is waited for."""
    name, image = devices.new_name(), create(place / "image.qcow2", "qcow2", "1M")
    argv = ("qemu-nbd", "--persistent", "--shared=0", f"--socket={place}/socket", "-f", "qcow2", str(image))
    with running(*argv) as server, devices.cleaned(name):
        uri = f"nbd+unix:///?socket={place}/socket"
        wait_until(lambda: listens(place / "socket"), "it listens")
        assert call("host_device", name=name, source=uri, read_only=False)["changed"]
        os.kill(server.pid, signal.SIGSTOP)
        try:
            # in a process of its own: what still waits for the kernel is left behind
            told = zygote.run("host_device", {"name": name, "state": "absent", "timeout": 2})
            assert (told.get("reason"), told["changed"]) == ("device_unresponsive", False), told
            assert os.path.islink(devices.link(name))
        finally:
            os.kill(server.pid, signal.SIGCONT)
        wait_until(lambda: call("host_device", name=name, state="absent").get("changed"), "it is detached")


# --- what the host has not got


def test_a_partition_that_cannot_be_opened_is_waited_for_and_nothing_stays(place: Path) -> None:
    """Something else has the name of its device."""
    name, image = devices.new_name(), blank(place / "image.raw")
    subprocess.run(["sfdisk", "--quiet", image], input="label: dos\nstart=16, size=64\n", check=True, text=True)
    with numbered() as device, devices.cleaned(name):
        wrong = Path(device + "p1")
        wrong.write_text("")
        try:
            told = call("host_device", **task(name, image, identity={"signature": ["dos"]}, device=device, timeout=1))
        finally:
            with contextlib.suppress(FileNotFoundError):
                wrong.unlink()
        assert told["reason"] == "device_timeout", told
        assert not devices.on_file(image)


def test_a_file_system_without_direct_io_is_told(place: Path) -> None:
    name = devices.new_name()
    subprocess.run(["mount", "-t", "ramfs", "none", place], check=True)
    try:
        image = blank(place / "image.raw")
        told = call("host_device", **task(name, image, direct_io=True))
        assert told["reason"] == "direct_io_unsupported", told
        assert not devices.on_file(image)
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_host_without_loop_devices_says_so(place: Path) -> None:
    image = blank(place / "image.raw")
    hidden = 'mount -t tmpfs none /dev && mknod /dev/null c 1 3 && exec "$@"'
    alone = ("unshare", "--mount", "--propagation", "slave", "sh", "-c", hidden, "sh")
    child = process("host_device", under=alone, **task("none", image))
    printed = child.communicate(timeout=DEADLINE)[0]
    assert '"reason": "devices_unsupported"' in printed, printed


def test_others_than_root_are_told_that_they_need_to_be(zygote: Zygote, place: Path) -> None:
    told = zygote.run("host_device", task("none", blank(place / "image.raw")), uid=65534)
    assert told["reason"] == "not_root", told
