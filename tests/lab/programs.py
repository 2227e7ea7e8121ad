"""Programs that run while a test looks at what they do."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket as socket_module
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Iterator

#: seconds; also for a guest to boot on a machine that gives it a fraction of a processor. Only what fails takes so long
DEADLINE = 180.0
#: consecutive looks until what is at rest is taken to be so, and the threads that it has at least
_LOOKS_AT_REST, _LEAST_THREADS = 3, 3


def wait_until(fact: Callable[[], object], what: str) -> None:
    """Look again and again until it is so; fails after C(DEADLINE) seconds."""
    end = time.monotonic() + DEADLINE
    while not fact():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def stand_still(pid: int) -> None:
    """SIGSTOP, and wait until all threads have: each goes on until it gets a processor and sees the signal."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: set(_states(pid)) == {"T"}, f"{pid} stands still")


def _states(pid: int) -> list[str]:
    """Of its threads."""
    try:
        return [state(each) for each in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:  # one of them has just ended
        return []


def state(process: Path) -> str:
    """Of a process or thread, by its directory in C(/proc), as proc(5) names it."""
    return (process / "stat").read_text().rpartition(")")[2].split()[0]


def listens(path: object) -> bool:
    """Whether a server has begun to listen at the socket: the file is there before that. C(__SO_ACCEPTCON) of Linux."""
    with open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as lines:
        return any(line.split()[3] == "00010000" and line.endswith(f" {path}\n") for line in lines)


def wait_for_monitor(process: subprocess.Popen[bytes], path: object) -> None:
    """Until a QEMU whose guest does not run, or a storage daemon, can be spoken to at the socket; fails when it ends.

    It listens before its monitor has a thread, which then takes the socket over. A client that comes sooner is taken by both
    threads: it gets no answer, or QEMU ends (7.2: 2 of 183 starts on a busy machine). So it is left alone until it has come to
    rest: all has been done then.
    """
    looks = 0

    def rests() -> bool:
        nonlocal looks
        looks = looks + 1 if listens(path) and is_at_rest(process.pid) else 0
        return looks == _LOOKS_AT_REST or process.poll() is not None

    wait_until(rests, "the monitor is there")
    assert process.poll() is None, "QEMU has ended"


def is_at_rest(pid: int) -> bool:
    """Whether all threads of a QEMU wait for something: the first, that of RCU and that of the monitor are always there."""
    states = _states(pid)
    return len(states) >= _LEAST_THREADS and set(states) == {"S"}


@contextlib.contextmanager
def running(*argv: object) -> Iterator[subprocess.Popen[bytes]]:
    """A program while the block runs."""
    process = subprocess.Popen([str(part) for part in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """As it would end by itself: what it holds has to be written, to a disk that may be busy."""
    for _again in range(6):
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):  # qemu-nbd can lose a SIGTERM while it starts
            process.communicate(timeout=10)
            return
    process.kill()
    process.communicate(timeout=DEADLINE)


@contextlib.contextmanager
def exported(path: object, format: str, socket: object, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """An image served by qemu-nbd, to any number: a client that is quicker than the look at it must not keep that waiting."""
    with running("qemu-nbd", "-t", "--shared=0", "-f", format, "-k", socket, *options, path) as process:
        wait_until(lambda: answers_nbd(str(socket)) or process.poll() is not None, "qemu-nbd serves")
        assert process.poll() is None
        yield process


def answers_nbd(where: str | tuple[str, int]) -> bool:
    """Whether an NBD server answers at a path or (host, port): its socket is there before the image is open."""
    family = socket_module.AF_UNIX if isinstance(where, str) else socket_module.AF_INET
    with socket_module.socket(family) as connection:
        connection.settimeout(DEADLINE)
        try:
            connection.connect(where)
            return connection.recv(8) == b"NBDMAGIC"
        except OSError:
            return False


@contextlib.contextmanager
def first_client(where: Path, name: str = "") -> Iterator[Callable[[], None]]:
    """A client that has the export from when a server listens at the path until the block ends, as one does that has lost
    its server. What it gives waits until it has it.
    """
    with running(sys.executable, "-I", "-S", Path(__file__).with_name("stubborn_client.py"), where, name) as client:
        output = client.stdout
        assert output and output.readline() == b"tries\n"

        def served() -> None:
            wait_until(lambda: select.select([output], [], [], 0)[0], f"{where} serves its first client")

        yield served
