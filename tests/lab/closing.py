"""A listener as a process that was killed leaves it behind for some milliseconds."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Iterator


@contextlib.contextmanager
def nobodys_listener(where: str | tuple[str, int], seconds: float | None = None) -> Iterator[None]:
    """It listens at a path or (address, port), and no process has it open: it is on its way to one. Closed with the block, or
    after C(seconds).
    """
    with contextlib.ExitStack() as ends:
        here, there = map(ends.enter_context, socket.socketpair())
        with socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET) as listener:
            listener.bind(where)
            listener.listen()
            socket.send_fds(here, [b"listener"], [listener.fileno()])
        if seconds is not None:
            closing = threading.Timer(seconds, there.close)
            closing.start()
            ends.callback(closing.join)
        yield
