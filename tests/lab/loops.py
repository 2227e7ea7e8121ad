"""Loop devices for tests. Needs root."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import subprocess
from pathlib import Path
from typing import BinaryIO, Iterator

from ansible_collections.platter.qemu.tests.lab.programs import wait_until

HAVE_LOOPS = os.geteuid() == 0 and os.path.exists("/dev/loop-control")
_ADD, _REMOVE = 0x4C80, 0x4C81


@contextlib.contextmanager
def attached(path: object, *options: str) -> Iterator[str]:
    """A loop device on a file while the block runs."""
    command = ["losetup", "--show", "-f", *options, str(path)]
    device = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield device
    finally:
        detach(device)


def detach(device: str) -> None:
    """Returns when the file has gone. As long as others look at the device, as at all that there are, the kernel keeps it."""
    file = _backing(device)
    subprocess.run(["losetup", "-d", device], check=True)
    wait_until(lambda: _backing(device) != file, "nobody has the device open")


def _backing(device: str) -> str:
    """The file that is attached, by the kernel's name of it; another one may be attached at once."""
    try:
        return Path("/sys/block", os.path.basename(device), "loop/backing_file").read_text()
    except OSError:
        return ""


@contextlib.contextmanager
def numbered() -> Iterator[str]:
    """A free loop device with a number that nobody else of this machine has: the first free one is what all others take."""
    number = 1000 + os.getpid() % 30_000
    with open("/dev/loop-control", "rb") as control:
        fcntl.ioctl(control, _ADD, number)
        try:
            yield f"/dev/loop{number}"
        finally:
            wait_until(lambda: _removed(control, number), "nobody looks at the device")


def _removed(control: BinaryIO, number: int) -> bool:
    """Others have a device open for a moment when they look at all that there are."""
    try:
        fcntl.ioctl(control, _REMOVE, number)
    except OSError as exc:
        if exc.errno != errno.EBUSY:
            raise
        return False
    return True


@contextlib.contextmanager
def mounted(device: object, directory: object, *options: str) -> Iterator[None]:
    """A file system mounted while the block runs. What is beneath it is shared, as hosts with systemd have all mounts: it is
    unmounted in the namespaces, too, that programs for other tests have made meanwhile. Else it would live on there.
    """
    with contextlib.ExitStack() as done:
        for words in (["--bind", "--make-shared", directory, directory], [*options, device, directory]):
            subprocess.run(["mount", *map(str, words)], check=True)
            done.callback(subprocess.run, ["umount", str(directory)], check=True)
        yield
