"""Block devices that the module made, as others see them: losetup, lsblk, the kernel's tables."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import subprocess
import uuid
from pathlib import Path
from typing import Any, Iterator

from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.programs import running, wait_until

LINKS = "/dev/platter"


def new_name() -> str:
    """Of a device that no other test has."""
    return "test-" + uuid.uuid4().hex[:12]


@contextlib.contextmanager
def cleaned(*names: str) -> Iterator[None]:
    """Devices of these names go with the block, and nothing of them is left."""
    try:
        yield
    finally:
        result = call("host_device", devices=[{"name": name} for name in names], state="absent")
        assert not result.get("failed"), result["msg"]
        assert not [name for name in names if os.path.lexists(link(name)) or marked(name) or servers(name)]


def link(name: str) -> str:
    """Where the device is found."""
    return f"{LINKS}/{name}"


def is_free(name: str) -> bool:
    """Whether neither a file system nor anything else of the kernel's is on the device of that name."""
    try:
        os.close(os.open(link(name), os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as exc:
        if exc.errno == errno.EBUSY:
            return False
        raise
    return True


def losetup(device: str) -> dict[str, Any] | None:
    """What losetup says of a device; None when nothing is attached to it."""
    columns = "NAME,BACK-FILE,OFFSET,SIZELIMIT,RO,DIO,LOG-SEC,AUTOCLEAR"
    argv = ["losetup", "--json", "--list", "--output", columns]
    told = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    entries = json.loads(told)["loopdevices"] if told.strip() else []
    return next((entry for entry in entries if entry["name"] == os.path.realpath(device)), None)


def on_file(path: object) -> list[str]:
    """The loop devices on a file, by losetup."""
    told = subprocess.run(["losetup", "--associated", str(path)], check=True, capture_output=True, text=True).stdout
    return [line.partition(":")[0] for line in told.splitlines()]


def marked(name: str) -> list[str]:
    """The loop devices that carry the mark of this device, by losetup's old way of telling it where there is one."""
    found = []
    for entry in os.listdir("/sys/block"):
        if os.path.exists(f"/sys/block/{entry}/loop") and _mark(f"/dev/{entry}") == f"platter:{name}":
            found.append(f"/dev/{entry}")
    return found


def _mark(device: str) -> str:
    """C(lo_file_name) is behind 56 bytes of numbers (linux/loop.h). Nothing of a device that goes meanwhile."""
    try:
        descriptor = os.open(device, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        return fcntl.ioctl(descriptor, 0x4C05, bytes(232))[56:120].rstrip(b"\0").decode()
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def servers(name: str) -> list[int]:
    """The processes that serve a device."""
    found = []
    for pid in (entry for entry in os.listdir("/proc") if entry.isdigit()):
        with contextlib.suppress(OSError):
            words = Path("/proc", pid, "cmdline").read_bytes().decode(errors="replace").split("\0")
            if os.path.basename(words[0]) == "qemu-storage-daemon" and f"/devices/{name}/" in " ".join(words):
                found.append(int(pid))
    return found


def wait_for_servers(name: str, number: int) -> None:
    """Until there are so many."""
    wait_until(lambda: len(servers(name)) == number, f"{number} servers")


@contextlib.contextmanager
def held(name: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that has the device open while the block runs."""
    with running("sh", "-c", f"exec sleep 600 < {link(name)}") as process:
        file = f"/proc/{process.pid}/fd/0"
        wait_until(lambda: os.readlink(file) == os.path.realpath(link(name)), "it is open")
        yield process
