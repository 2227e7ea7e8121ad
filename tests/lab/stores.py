"""NBD servers on this machine's loopback that each have one leg of an array, and that are made to fail."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from pathlib import Path
from typing import Iterator

from ansible_collections.platter.qemu.tests.lab.ports import free_port
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE, answers_nbd, wait_until

#: this machine's loopback, as a guest with QEMU's own network sees it
HOST = "10.0.2.2"


class Store:
    """A server of one export, which is called as its file."""

    def __init__(self, image: Path) -> None:
        self.image, self.name, self.host = image, image.stem, HOST
        self.port = free_port()
        #: bytes in a second that it reads; 0 for as many as it can
        self.speed = 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """As the guest reaches it."""
        return f"nbd://{self.host}:{self.port}/{self.name}"

    def start(self) -> None:
        """Returns when it answers. What is flushed is not written out: only a server may die, and no disk is to be waited for."""
        address = ("-b", "127.0.0.1", "-p", str(self.port))
        command = ("qemu-nbd", "-t", "-e", "8", "--cache=unsafe", *address, "-x", self.name)
        self.process = process = subprocess.Popen([*command, *self._what()], stdin=subprocess.DEVNULL)
        wait_until(lambda: answers_nbd(("127.0.0.1", self.port)) or process.poll() is not None, "it serves")
        assert process.poll() is None, "the server has ended"

    def _what(self) -> tuple[str, ...]:
        if not self.speed:
            return ("-f", "raw", str(self.image))
        limit = f"throttle-group,id=limit,x-bps-read={self.speed}"
        below = f"file.driver=raw,file.file.driver=file,file.file.filename={self.image}"
        return ("--object", limit, "--image-opts", f"driver=throttle,throttle-group=limit,{below}")

    def kill(self) -> None:
        """SIGKILL, as the kernel does when memory is short."""
        if self.process:
            self.process.kill()
            self.process.wait(DEADLINE)
            self.process = None

    def freeze(self) -> None:
        """It answers nothing any more."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        assert self.process
        self.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def stores(directory: Path, number: int, size: str = "16M", speed: int = 0) -> Iterator[list[Store]]:
    """So many servers, which go with the block; their legs are blank. C(speed): bytes in a second that each reads."""
    made = []
    try:
        for each in range(number):
            image = directory / f"leg{each}.raw"
            subprocess.run(["truncate", "-s", size, image], check=True)
            made.append(Store(image))
            made[-1].speed = speed
            made[-1].start()
        yield made
    finally:
        for store in made:
            store.kill()
