"""strace(1) on a module process and everything it starts: what they ask of the kernel, and faults put in their way."""

from __future__ import annotations

import collections
import contextlib
import re
import subprocess
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

from .zygote import Child

#: What changes a file system, as the programs here do it.
MUTATING = [
    "pwrite64",
    "pwritev",
    "write",
    "fdatasync",
    "fsync",
    "sync_file_range",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "ftruncate",
    "truncate",
    "fallocate",
    "copy_file_range",
    "sendfile",
    "setxattr",
    "fsetxattr",
    "lsetxattr",
    "removexattr",
    "fremovexattr",
    "lremovexattr",
    "chmod",
    "fchmod",
    "fchmodat",
    "chown",
    "fchown",
    "lchown",
    "fchownat",
    "utime",
    "utimes",
    "utimensat",
    "futimesat",
]
#: Those at which a fault is worth while: C(write) is mostly pipes, C(open) is looked at by its flags.
FAULTY = [name for name in MUTATING if name not in ("write", "symlink", "symlinkat", "mknod", "mknodat")]
DEADLINE = 120.0
_LINE = re.compile(r"(?P<pid>\d+) +(?P<call>\w+)\((?P<rest>.*)")


@dataclass(frozen=True)
class Call:
    """One system call: who, what, with which arguments and result, as strace writes them."""

    pid: int
    name: str
    text: str


@contextlib.contextmanager
def tracing(child: Child, log: Path, *options: str, follow: bool = True) -> t.Iterator[subprocess.Popen[bytes]]:
    """strace on a stopped child while the block runs, and until all that it started has ended; without C(follow) until
    it has itself. It may be killed: what it holds up goes on then.
    """
    command = [
        "strace",
        *(["-f"] if follow else []),
        "-qq",
        "-s",
        "4096",
        "-o",
        str(log),
        *options,
        "-p",
        str(child.pid),
    ]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as tracer:
        try:
            _wait_for_tracer(child.pid, tracer)
            child.go_on()
            yield tracer
            tracer.wait(timeout=DEADLINE)
        finally:
            tracer.kill()
    if not follow:  # then strace does not say whose calls they are
        log.write_text("".join(f"{child.pid} {line}\n" for line in log.read_text(errors="replace").splitlines()))


def _wait_for_tracer(pid: int, tracer: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + DEADLINE
    while "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text():
        assert tracer.poll() is None, tracer.communicate()
        assert time.monotonic() < end, "strace never attached"
        time.sleep(0.001)


def calls_of(log: Path) -> list[Call]:
    """The calls of a log, those that were split over two lines joined."""
    found: list[Call] = []
    unfinished: dict[int, tuple[str, str]] = {}
    for line in log.read_text(errors="replace").splitlines():
        pid_text, _space, rest = line.partition(" ")
        pid, rest = int(pid_text), rest.strip()
        resumed = re.match(r"<\.\.\. (\w+) resumed>(.*)", rest)
        if resumed and pid in unfinished:
            name, start = unfinished.pop(pid)
            found.append(Call(pid, name, start + resumed.group(2)))
            continue
        match = _LINE.match(line)
        if not match:
            continue
        text = match.group("rest")
        if text.endswith("<unfinished ...>"):
            unfinished[pid] = (match.group("call"), text[: -len("<unfinished ...>")])
        else:
            found.append(Call(pid, match.group("call"), text))
    found += [Call(pid, name, text) for pid, (name, text) in unfinished.items()]
    return found


def most_by_one(calls: t.Iterable[Call]) -> dict[str, int]:
    """For each call the most that one thread made of it: C(inject=...:when=k) counts for each thread by itself."""
    counted = collections.Counter((call.name, call.pid) for call in calls)
    most: dict[str, int] = {}
    for (name, _pid), number in counted.items():
        most[name] = max(most.get(name, 0), number)
    return most
