"""Runs the steps of make test, all or those named (a step or a group), and counts the tests that passed and failed."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Sequence

from counts import Counts
from paths import BUILD, LOGS, ROOT
from pythons import link_pythons, matrix
from steps import Core, Step, all_steps
from system_tools import advice, missing
from trees import copy_checkout, link_checkout
from venvs import ensure_test_venv

TAIL_LINES = 40
CHATTER = re.compile(
    r"(Run|Execute|Stream) command|Collecting |Installing |Using cached |Created Python|Successfully installed"
    r"|\s+Downloading|\s+━|\s*$"
)
TIMEOUT_SECONDS = 3000
RUNNING: set[subprocess.Popen] = set()


def _execute(step: Step, log: Path) -> int:
    """Run the step's command into its log; whatever it leaves in its process group is ended with it."""
    environment = {**step.core.environment(), **step.environment}
    command = ["env", *step.command]  # looks the program up in the step's PATH, not in ours
    with log.open("wb") as output:
        output.write(f"$ {shlex.join(step.command)}\n".encode())
        output.flush()
        process = subprocess.Popen(
            command,
            cwd=step.cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        RUNNING.add(process)
        try:
            return process.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            output.write(f"\nStopped after {TIMEOUT_SECONDS} seconds.\n".encode())
            return 124
        finally:
            _end_group(process)


def _end_group(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM if process.poll() is not None else signal.SIGKILL)
    process.wait()
    RUNNING.discard(process)


def _stop(signum: int, frame: object) -> None:
    """Interrupted: the steps are in sessions of their own, so they are ended from here."""
    for process in list(RUNNING):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    os._exit(128 + signum)


def _counts(step: Step, log: Path) -> Counts:
    """Run the step if its programs are here. A missing one is a failure, never a skip."""
    log.with_suffix(".xml").unlink(missing_ok=True)
    absent = missing(step.needs)
    if absent:
        log.write_text(advice(absent) + "\n")
        return Counts(0, 1)
    return step.count(_execute(step, log), log)


def _tail(log: Path) -> list[str]:
    """The last lines that say something of a test: not what pip and ansible-test say of their own work."""
    lines = log.read_text(errors="replace").splitlines()
    return [line for line in lines if not CHATTER.match(line)][-TAIL_LINES:]


def _run(step: Step) -> Counts:
    """Run one step and print its line, and the end of its log if it failed."""
    log, start = LOGS / f"{step.name}.log", time.monotonic()
    result = _counts(step, log)
    seconds = time.monotonic() - start
    word = "FAILED" if result.failed else "ok"
    skipped = f", {result.skipped} skipped" if result.skipped else ""
    lines = [f"{step.name:24} {word:7} {seconds:6.1f} s   {result.passed} passed, {result.failed} failed{skipped}"]
    if result.failed:
        lines += [f"    | {line}" for line in _tail(log)] + [f"    full log: {log.relative_to(ROOT)}"]
    print("\n".join(lines), flush=True)
    return result


def _next(queues: Sequence[deque[Step]]) -> Step | None:
    """A step of the first queue that still has one; None when all are empty."""
    for queue in queues:
        with contextlib.suppress(IndexError):
            return queue.popleft()
    return None


def _work_off(queues: Sequence[deque[Step]]) -> list[Counts]:
    """One lane, until there is nothing left for it."""
    return [_run(step) for step in iter(lambda: _next(queues), None)]


def _run_all(steps: list[Step]) -> Counts:
    """In one lane what wants the machine's devices and its own places, and then whatever is left; the other steps beside it."""
    host_wide, others = (deque(step for step in steps if step.host_wide is kind) for kind in (True, False))
    lanes = [(host_wide, others), (others,)][: os.cpu_count() or 1]
    with ThreadPoolExecutor(len(lanes)) as pool:
        results = [counts for lane in pool.map(_work_off, lanes) for counts in lane]
    return Counts(*map(sum, zip(*results)))


def _prepare(number: str, version: str, *, newest: bool) -> Core:
    core = Core(number, version, ensure_test_venv(number, version, tools=newest))
    copy_checkout(core.tree)
    return core


def prepare() -> list[Core]:
    """The venvs and copies for every core this machine can run, newest first."""
    LOGS.mkdir(parents=True, exist_ok=True)
    if missing(["git"]):
        raise SystemExit(advice(["git"]))
    pairs = matrix()
    link_pythons(BUILD / "pythons")
    link_checkout()
    print("ansible-core " + ", ".join(f"{core} on Python {version}" for core, version in pairs), flush=True)
    with ThreadPoolExecutor(len(pairs)) as pool:
        return list(pool.map(lambda pair: _prepare(*pair, newest=pair == pairs[0]), pairs))


def _choose(steps: list[Step], names: list[str]) -> list[Step]:
    known = {word for step in steps for word in (step.name, step.group)}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"no such step: {', '.join(unknown)}. There are: {', '.join(sorted(known))}")
    return [step for step in steps if (step.always and not names) or step.name in names or step.group in names]


def main() -> int:
    """Prepare, run, and close with the sum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="STEP", help="a step or a group of steps; all if none is named")
    names = parser.parse_args().names
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _stop)
    start = time.monotonic()
    steps = _choose(all_steps(prepare()), names)
    print(f"prepared in {time.monotonic() - start:.1f} s; logs in {LOGS.relative_to(ROOT)}/", flush=True)
    total = _run_all(steps)
    print(f"{len(steps)} steps in {time.monotonic() - start:.0f} s")
    print(f"{total.passed} passed, {total.failed} failed")
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    sys.exit(main())
