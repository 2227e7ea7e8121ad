# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Keeps one server running where there is no systemd. A program of its own: C(python3 supervise.py DIRECTORY [PID]).

It needs nothing but this file and Python's standard library, as it outlives the play and the files that the play was
made of. C(DIRECTORY/export.json) or C(DIRECTORY/vm.json) says what is run (C(argv); C(launcher) stands before that, and becomes
it; C(loader) is run after each start), and at which socket it listens (C(options.socket)).
With PID it takes over a server that has lost its supervisor. How that ends it does not see: C(unseen_end) is the status that
stands for it, by default a failure.

SIGTERM ends the server (which then writes out what it holds) and the supervisor. A server that fails is started again;
one that ends by itself, with exit status 0, is not.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import sys
import time
import typing as t

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
#: seconds; a server that fails sooner after its very first start than this has never worked
SETTLED = 2.0
#: seconds between a failure and the next start, growing while it fails at once
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
#: seconds between two requests to end: a qemu-nbd that is just starting can lose one
ASK_AGAIN = 1.0
#: seconds between two looks at a server that is not our child, and at the size of the log
LOOK = 0.5
#: seconds until a socket that another program listens at is given up
TAKEN = 5.0
LARGEST_LOG = 1 << 20
#: the kernel ends others first when memory is short: a killed server loses what it has not written out
OOM_SCORE = "-900"
#: what a definition is called
FILES = ("export.json", "vm.json")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP)


def detach(directory: str) -> None:
    """Leave the play: another session, no terminal, none of its files, and nobody's child."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.umask(0o177)
    log = os.open(os.path.join(directory, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    spare(OOM_SCORE)


def spare(score: str) -> None:
    """Whom the kernel ends when memory is short: to say that one is not the first is root's."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as stream:
        stream.write(score)


def read(directory: str) -> dict[str, t.Any]:
    """What is run."""
    path = next(path for path in (os.path.join(directory, name) for name in FILES) if os.path.exists(path))
    with open(path, encoding="utf-8") as stream:
        return dict(json.load(stream))


def say(text: str) -> None:
    """One line for the log."""
    os.write(2, ("%s supervisor: %s\n" % (time.strftime("%Y-%m-%dT%H:%M:%S"), text)).encode())


class Supervisor:
    """One server and what becomes of it."""

    def __init__(self, definition: dict[str, t.Any], adopted: int) -> None:
        self.argv = definition.get("launcher", []) + definition["argv"]
        self.loader = definition.get("loader", [])
        self.path = definition["options"].get("socket", "")
        self.unseen_end = int(definition.get("unseen_end", 1))
        self.oom_score = str(definition.get("oom_score_adj", OOM_SCORE))
        self.pid = adopted
        self.adopted = bool(adopted)
        self.born = birth(adopted) if adopted else ""
        self.started = self.asked = 0.0
        self.pause = SHORTEST_PAUSE
        self.proved = self.adopted
        self.stopping = False

    def run(self) -> int:
        """Until the server has ended for good; its exit status."""
        next_start = 0.0
        while True:
            if not self.pid and not self.stopping and time.monotonic() >= next_start:
                self.start()
            status = self.ended() if self.pid else None
            if status is not None:
                self.pid = 0
                if self.is_over(status):
                    return status
                next_start = time.monotonic() + self.wait_longer()
            if self.stopping:
                if not self.pid:
                    return 0
                self.ask_to_end()
            self.wait(next_start)

    def start(self) -> None:
        """The server as our child, with no signal blocked, unless another program listens at its socket."""
        if self.path and not free_soon(self.path):
            say("another program listens on %s, or it is no socket" % self.path)
            os._exit(1)
        self.started, self.adopted = time.monotonic(), False
        self.pid = os.fork()
        if self.pid == 0:
            spare(self.oom_score)
            become(self.argv)
        if self.loader:
            self.load()

    def load(self) -> None:
        """Run what comes after each start, as nobody's child."""
        between = os.fork()
        if between == 0:
            if os.fork() == 0:
                become(self.loader)
            os._exit(0)
        os.waitpid(between, 0)

    def ended(self) -> int | None:
        """How the server ended, as a shell tells it; None while it runs."""
        if self.adopted:
            return None if birth(self.pid) == self.born else self.unseen_end
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return None
        return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

    def is_over(self, status: int) -> bool:
        """Whether it is not started again."""
        lived = time.monotonic() - self.started
        never_worked = not self.proved and lived < SETTLED and status < 128
        if not self.stopping:
            say("the server ended with status %d" % status)
        self.proved = self.proved or lived >= SETTLED
        return self.stopping or status == 0 or never_worked

    def wait_longer(self) -> float:
        """Seconds until the next start."""
        settled = time.monotonic() - self.started >= SETTLED
        self.pause = SHORTEST_PAUSE if settled else min(self.pause * 2, LONGEST_PAUSE)
        return self.pause

    def ask_to_end(self) -> None:
        """Now and then, until it has."""
        if time.monotonic() - self.asked >= ASK_AGAIN:
            self.asked = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def wait(self, next_start: float) -> None:
        """For a signal, or for the next thing to be done."""
        seconds = 60.0
        if not self.pid:
            seconds = max(next_start - time.monotonic(), 0.0)
        elif self.adopted or self.stopping:
            seconds = LOOK
        got = signal.sigtimedwait(SIGNALS, seconds)
        if got and got.si_signo in (signal.SIGTERM, signal.SIGINT):
            self.stopping = True
        if os.fstat(2).st_size > LARGEST_LOG:
            os.ftruncate(2, 0)


def become(argv: list[str]) -> None:
    """Another program, with no signal blocked."""
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execve(argv[0], argv, ENVIRONMENT)
    except OSError as exc:
        say("%s: %s" % (argv[0], exc.strerror))
    os._exit(127)


def birth(pid: int) -> str:
    """When a process was started; empty when there is none (any more)."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as stream:
            fields = stream.read().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


def free_soon(path: str) -> bool:
    """As C(free_socket), with patience: what the kernel still does for a server that was killed may keep its socket."""
    deadline = time.monotonic() + TAKEN
    while not free_socket(path):
        if time.monotonic() >= deadline:
            return False
        time.sleep(SHORTEST_PAUSE)
    return True


def free_socket(path: str) -> bool:
    """Remove a socket that a killed server has left. False when somebody listens: qemu-nbd would take it over; and for what is
    no socket, which answers as one that was left.
    """
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
    except FileNotFoundError:
        return True
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return True
        except FileNotFoundError:
            return True
        except OSError:
            return False
    return False


def main() -> None:
    """Entry point."""
    directory = sys.argv[1]
    detach(directory)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    adopted = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    raise SystemExit(Supervisor(read(directory), adopted).run())


if __name__ == "__main__":
    main()
