"""A QEMU that is started with drives and asked what it has made of them, without running its guest."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import typing as t
from pathlib import Path

from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE, running, wait_for_monitor

QEMU = "qemu-system-x86_64"
Question = t.Tuple[str, t.Dict[str, t.Any]]


class QemuRefusedError(Exception):
    """QEMU did not start, or ended; with its own words."""


def ask(
    words: t.Sequence[str], questions: t.Sequence[Question], machine: str = "pc", timeout: float = DEADLINE
) -> t.List[t.Any]:
    """The answer to each question; None where QEMU said no. Raises QemuRefusedError."""
    told = [{"execute": "qmp_capabilities"}]
    told += [{"execute": name, "arguments": given, "id": number} for number, (name, given) in enumerate(questions)]  # type: ignore[dict-item]
    done = subprocess.run(
        [
            QEMU,
            "-M",
            machine,
            "-accel",
            "tcg",
            "-m",
            "64",
            "-S",
            "-nodefaults",
            "-display",
            "none",
            "-qmp",
            "stdio",
            *words,
        ],
        input="\n".join(json.dumps(each) for each in [*told, {"execute": "quit"}]),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    found = {each["id"]: each.get("return") for each in answers if "id" in each}
    if done.returncode or len(found) < len(questions):
        raise QemuRefusedError(done.stderr.strip())
    return [found[number] for number in range(len(questions))]


@contextlib.contextmanager
def started(monitor: Path, *words: object) -> t.Iterator[subprocess.Popen[bytes]]:
    """A QEMU while the block runs, its guest stopped, its images open. C(monitor): its QMP socket. C(words): how it is called."""
    stopped = ("-S", "-nodefaults", "-display", "none", "-qmp", f"unix:{monitor},server=on,wait=off")
    with running(*words, *stopped) as process:
        wait_for_monitor(process, monitor)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(DEADLINE)
            client.connect(str(monitor))
            assert b"QMP" in client.recv(100)  # it greets when all is open
        monitor.chmod(0o600)
        yield process
