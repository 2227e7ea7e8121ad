# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The only door to a program: limits of time and memory, no shell, a record of every command."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import typing as t
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._core import errors

#: C(command) in, (exit status, standard output, standard error) out
RunCommand = t.Callable[..., t.Tuple[int, str, str]]

_SECONDS_TO_DIE = 10.0
#: F_SETPIPE_SZ, which Python knows since 3.10; and the most that a user may set by himself. QEMU's schema has 200 KB
_SET_PIPE_SIZE, _LONG_ANSWER = 1031, 1 << 20
_LOCK_MESSAGES = (
    'Failed to get "write" lock',
    'Failed to get shared "write" lock',
    'Failed to get "consistent read" lock',
)


@dataclass(frozen=True)
class Limits:
    """What a program that reads foreign bytes may use: CPU seconds, address space in bytes, open files.

    vdsm and Nova run C(qemu-img info) with 30 s and 1 GiB for the same reason. 1 GiB of addresses was too little for
    the threads and allocator arenas of a healthy C(qemu-img check) in about 1 of 200 runs on a busy machine.
    """

    cpu_seconds: int = 30
    address_space: int = 4 << 30
    open_files: int = 1024

    def wrap(self, argv: t.Sequence[str]) -> t.List[str]:
        """C(argv) under prlimit(1) of util-linux."""
        return [
            "prlimit",
            "--cpu=%d" % self.cpu_seconds,
            "--as=%d" % self.address_space,
            "--nofile=%d" % self.open_files,
            "--core=0",
            "--",
            *argv,
        ]


#: for programs that only inspect
INSPECTION = Limits()
#: seconds; a check of 1 TiB of qcow2 reads 300 MiB of tables
PATIENCE = 600.0


class Runner:
    """Runs programs and remembers what it ran (C(commands): lists of arguments, in order of their start).

    C(patience): seconds for what only inspects, and for what copies to do nothing at all.
    """

    def __init__(self, keep_open: t.Sequence[int] = (), patience: float = PATIENCE) -> None:
        self._patience = patience
        self.commands: t.List[t.List[str]] = []
        #: file descriptors that children inherit: a lock then lives as long as an orphaned child still writes
        self.keep_open = list(keep_open)

    def __call__(
        self,
        argv: t.Sequence[str],
        *,
        limits: t.Optional[Limits] = None,
        timeout: t.Optional[float] = None,
        idle: bool = False,
        cwd: t.Optional[str] = None,
        held: t.Sequence[int] = (),
        quiet: t.Sequence[str] = (),
        told: str = "",
    ) -> t.Tuple[int, str, str]:
        """Run C(argv) to its end; the whole process group is killed after C(timeout) seconds (then
        ToolTimeoutError). C(limits) without C(timeout) gives it our patience, C(idle) as long as it does anything.
        C(held): file descriptors that it inherits, for as long as it lives. C(quiet): directories whose files keep
        their access times while it reads them, if root runs it and may mount. C(told): its standard input (not with
        C(idle)).
        """
        if limits:
            timeout = min(timeout or self._patience, self._patience)
        self.commands.append(list(argv))
        started = self._start(_wrapped(argv, limits, quiet), cwd, held, bool(told))
        try:
            stdout, stderr = self._while_busy(started) if idle else _communicate(started, told, timeout)
        except subprocess.TimeoutExpired as exc:
            _kill_group(started)
            why = "it has done nothing" if idle else "it has not come to its end"
            raise errors.ToolTimeoutError(argv, "%s for %g s" % (why, exc.timeout), _text(exc.output or b"")) from exc
        except BaseException:
            _kill_group(started)
            raise
        return started.returncode, _text(stdout), _text(stderr)

    def _while_busy(self, started: subprocess.Popen[bytes]) -> t.Tuple[bytes, bytes]:
        """What it prints; TimeoutExpired when it has not run on any processor for as long as our patience."""
        while True:
            before = _processor_time(started.pid)
            try:
                return started.communicate(timeout=self._patience)
            except subprocess.TimeoutExpired:
                if before is not None and _processor_time(started.pid) == before:
                    raise

    def _start(
        self, argv: t.Sequence[str], cwd: t.Optional[str], held: t.Sequence[int], told: bool
    ) -> subprocess.Popen[bytes]:
        try:
            # AnsibleModule.run_command has no limit of time, and cannot hand down our lock
            return subprocess.Popen(  # pylint: disable=ansible-bad-function
                _dying_with_parent(argv),
                stdin=subprocess.PIPE if told else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(os.environ, LC_ALL="C", LANG="C", MALLOC_ARENA_MAX="2"),
                start_new_session=True,
                pass_fds=[*self.keep_open, *held],
                cwd=cwd,
            )
        except OSError as exc:
            raise errors.EngineError("%s cannot be started: %s" % (argv[0], exc.strerror), cmd=list(argv)) from exc


def _communicate(started: subprocess.Popen[bytes], told: str, timeout: t.Optional[float]) -> t.Tuple[bytes, bytes]:
    if told:
        # a QEMU that is told to quit leaves out what does not fit while nobody reads, as on a busy host
        with contextlib.suppress(OSError):
            fcntl.fcntl(t.cast(t.BinaryIO, started.stdout), _SET_PIPE_SIZE, _LONG_ANSWER)
    return started.communicate(told.encode("utf-8", "surrogateescape") if told else None, timeout=timeout)


def streamed(argv: t.Sequence[str], chunk: int, source: t.BinaryIO) -> t.Iterator[bytes]:
    """What a program makes of C(source) as it comes, C(chunk) bytes at a time, for what does not fit in memory.

    Raises ToolError when the program fails; ends it when nobody wants the rest.
    """
    with subprocess.Popen(  # pylint: disable=ansible-bad-function
        _dying_with_parent(argv), stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            stdout, stderr = t.cast(t.BinaryIO, process.stdout), t.cast(t.BinaryIO, process.stderr)
            yield from iter(lambda: stdout.read(chunk), b"")
            said = _text(stderr.read(4096))
            process.wait()
        finally:
            if process.poll() is None:
                process.kill()
    if process.returncode != 0:
        raise errors.ToolError(argv, process.returncode, "", said)


def _wrapped(argv: t.Sequence[str], limits: t.Optional[Limits], quiet: t.Sequence[str]) -> t.List[str]:
    if quiet and os.geteuid() == 0:
        from ansible_collections.platter.qemu.plugins.module_utils._tools.quiet import quietly

        argv = quietly(argv, quiet)
    return limits.wrap(argv) if limits and shutil.which("prlimit") else list(argv)


def _dying_with_parent(argv: t.Sequence[str]) -> t.List[str]:
    """A module that is killed takes its programs along: setpriv(1) of util-linux sets PR_SET_PDEATHSIG before exec."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--", *argv] if setpriv else list(argv)


def _processor_time(pid: int) -> t.Optional[t.Tuple[bytes, ...]]:
    """What each thread has had of the processors (C(/proc/PID/task/TID/schedstat)); None where it cannot be told.

    It grows whenever a thread so much as wakes up. A program that waits for a server that is silent, or for a file
    system whose server is, does not.
    """
    directory = "/proc/%d/task" % pid
    try:
        return tuple(_first_word("%s/%s/schedstat" % (directory, name)) for name in sorted(os.listdir(directory)))
    except OSError:
        return None


def _first_word(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read().split()[0]


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):  # not while the kernel waits for a disk or a server
        process.wait(_SECONDS_TO_DIE)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def run(
    run_command: RunCommand, argv: t.Sequence[str], *, ok: t.Sequence[int] = (0,), **how: t.Any
) -> t.Tuple[int, str]:
    """Run and return (exit status, standard output); any status outside C(ok) raises ToolError or ImageLockedError."""
    rc, stdout, stderr = run_command(list(argv), **how)
    if rc in ok:
        return rc, stdout
    if any(message in stderr for message in _LOCK_MESSAGES):
        raise errors.ImageLockedError(argv, rc, stdout, stderr)
    raise errors.ToolError(argv, rc, stdout, stderr)
