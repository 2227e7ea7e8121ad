"""Starts module processes by the dozen: one warm parent that has everything imported forks a child for each.

A child is a process of its own, in its own session, as Ansible starts it; only the 0.3 s of imports are saved.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
import typing as t
from dataclasses import dataclass
from pathlib import Path

from ansible.module_utils.testing import patch_module_args

from . import programs

MODULES = "ansible_collections.platter.qemu.plugins.modules."
#: imported by the engine where it needs them; in the parent once for all
_LAZY = ("_image.fetch",)
DEADLINE = 120.0
#: for what many wait for that are started at once: the last of them for all others, on a busy machine
RACE_SECONDS = 600


@dataclass
class Child:
    """A module process; its result is the last line that it prints."""

    pid: int
    printed: Path
    zygote: Zygote

    def wait(self) -> int:
        """The exit status, negative for a signal."""
        return int(self.zygote.ask({"wait": self.pid})["status"])

    def result(self) -> dict[str, t.Any]:
        """After C(wait): what the module said; a traceback fails the test."""
        out, err = self.printed.read_text(), self.printed.with_suffix(".err").read_text()
        assert "Traceback" not in out + err, out + err
        return dict(json.loads(out.splitlines()[-1]))

    def go_on(self) -> None:
        """Let a child that was started stopped run."""
        os.kill(self.pid, signal.SIGCONT)


class Zygote:
    """The parent's side of the line. C(directory): for what children print."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._number = 0
        paths = [path for path in sys.path if path]
        # what it and its copies are known by: no other has the directory
        self._code = f"import sys; sys.path[:0] = {paths!r}; from {__name__} import serve; serve()  # {directory}"
        self._process = subprocess.Popen(
            [sys.executable, "-c", self._code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def copies(self) -> list[int]:
        """Its children that are there, and theirs that have not become another program yet."""
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self._is_copy(pid)]

    def _is_copy(self, pid: int) -> bool:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return pid != self._process.pid and self._code.encode() in words

    def close(self) -> None:
        """End the parent."""
        self._process.communicate(timeout=DEADLINE)

    def ask(self, request: dict[str, t.Any]) -> dict[str, t.Any]:
        """One line there, one line back."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return dict(json.loads(self._process.stdout.readline()))

    def start(
        self, module: str, options: t.Mapping[str, t.Any], *, check: bool = False, stopped: bool = False, uid: int = 0
    ) -> Child:
        """Begin a module process; C(stopped): it waits for C(go_on) before its first line of code."""
        self._number += 1
        printed = self._directory / f"{self._number}.out"
        arguments = dict(options, _ansible_check_mode=check, _ansible_diff=True)
        request = {"module": module, "arguments": arguments, "printed": str(printed), "stopped": stopped, "uid": uid}
        child = Child(int(self.ask(request)["pid"]), printed, self)
        if stopped:
            wait_for_state(child.pid, "T")
        return child

    def run(self, module: str, options: t.Mapping[str, t.Any], **how: t.Any) -> dict[str, t.Any]:
        """Start, wait, result."""
        child = self.start(module, options, **how)
        child.wait()
        return child.result()


def wait_for_state(pid: int, state: str) -> None:
    """Until the process is in a state of proc(5)."""
    end = time.monotonic() + DEADLINE
    while programs.state(Path(f"/proc/{pid}")) != state:
        assert time.monotonic() < end, f"process {pid} never came to state {state}"
        time.sleep(0.001)


def serve() -> None:
    """The warm parent: one request a line until the line is closed."""
    for name in _LAZY:
        importlib.import_module("ansible_collections.platter.qemu.plugins.module_utils." + name)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _pid, status = os.waitpid(request["wait"], 0)
            answer = {"status": os.waitstatus_to_exitcode(status)}
        else:
            answer = {"pid": _fork(request)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _fork(request: dict[str, t.Any]) -> int:
    importlib.import_module(MODULES + request["module"])
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        status = _be_module(request)
    finally:  # whatever it was: this process must not go on as a second parent
        if sys.exc_info()[1]:
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(status)


def _be_module(request: dict[str, t.Any]) -> int:
    os.setsid()
    printed = Path(request["printed"])
    for path, number in ((printed, 1), (printed.with_suffix(".err"), 2), (Path("/dev/null"), 0)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), number)
    os.closerange(3, 256)
    if request["uid"]:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(*[request["uid"]] * 3)
    if request["stopped"]:
        os.kill(os.getpid(), signal.SIGSTOP)
    return _call(request)


def _call(request: dict[str, t.Any]) -> int:
    try:
        with patch_module_args(request["arguments"]):
            importlib.import_module(MODULES + request["module"]).main()
    except SystemExit as exc:
        return int(exc.code or 0)
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    return 0
