"""Loop devices for tests. Needs root."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from typing import Iterator

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
        subprocess.run(["losetup", "-d", device], check=True)


@contextlib.contextmanager
def numbered() -> Iterator[str]:
    """A free loop device with a number that nobody else of this machine has: the first free one is what all others take."""
    number = 1000 + os.getpid() % 30_000
    with open("/dev/loop-control", "rb") as control:
        fcntl.ioctl(control, _ADD, number)
        try:
            yield f"/dev/loop{number}"
        finally:
            fcntl.ioctl(control, _REMOVE, number)


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
