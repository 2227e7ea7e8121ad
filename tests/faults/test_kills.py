"""kill -9 at any instant: the image is old or new, never else, and the next run converges without anybody's help."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab.amounts import amount, generator, share
from ansible_collections.platter.qemu.tests.lab.trials import Trials, wait_until_quiet
from ansible_collections.platter.qemu.tests.lab.verbs import BY_NAME, VERBS, Verb
from ansible_collections.platter.qemu.tests.lab.zygote import Child, Zygote

Count = t.Callable[[str, int], None]
#: many of these in a row are alike
_ALIKE = ("pwrite64", "pwritev", "ftruncate", "fdatasync", "copy_file_range", "fallocate", "fchmod", "chmod")


def _chosen(trials: Trials) -> list[tuple[str, int]]:
    """By default a share of what is alike, and most of what is not: 200 kills and more over all verbs."""
    points = trials.points()
    alike = [point for point in points if point[0] in _ALIKE]
    chosen = [point for point in points if point not in alike] + share(alike, 3, trials.verb.name)
    return share(chosen, 12, "most " + trials.verb.name)


def _after_kill(trials: Trials, child: Child, point: object) -> None:
    status = child.wait()
    wait_until_quiet(trials.world, trials.zygote)
    try:
        if status == -signal.SIGKILL:
            trials.judge()
        else:
            trials.answers_truly(child.result())
        trials.converges()
    except AssertionError as exc:
        raise AssertionError(f"{trials.verb.name} killed at {point} (exit status {status}): {exc}") from exc


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_killed_at_a_system_call_is_old_or_new(verb: Verb, zygote: Zygote, place: Path, count: Count) -> None:
    trials = Trials(verb, zygote, place)
    points = _chosen(trials)
    for call, when in points:
        trials.reset()
        inject = f"inject={call}:signal=KILL:when={when}"
        child = trials.traced("-e", "trace=" + call, "-e", inject)
        _after_kill(trials, child, (call, when))
    count("kills at a system call", len(points))


_RANDOM = ("create-qcow2", "import-raw-to-qcow2", "import-qcow2-to-split", "rewrite-cluster-size", "rebase", "flatten")


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _kill_child_of(child: Child, delay: float) -> None:
    """The program that the module runs, some time after it has begun."""
    end = time.monotonic() + 1
    while not _children(child.pid) and time.monotonic() < end and Path(f"/proc/{child.pid}/fd/0").exists():
        time.sleep(0.0005)
    time.sleep(delay / 4)
    for pid in _children(child.pid):
        _kill(pid)


@pytest.mark.parametrize("victim", ["module", "program"])
@pytest.mark.parametrize("name", _RANDOM)
def test_killed_at_any_time_is_old_or_new(name: str, victim: str, zygote: Zygote, place: Path, count: Count) -> None:
    trials, dice = Trials(BY_NAME[name], zygote, place), generator(f"{name} {victim}")
    trials.reset()
    begun = time.monotonic()
    trials.run()
    whole = time.monotonic() - begun
    rounds = amount(4, 60)
    for number in range(rounds):
        trials.reset()
        # spread over the whole run: one in each of so many parts of it
        delay = whole * (number + dice.random()) / rounds
        child = trials.start()
        if victim == "module":
            time.sleep(delay)
            _kill(child.pid)
        else:
            _kill_child_of(child, delay)
        _after_kill(trials, child, f"{delay:.4f} s")
    count("kills at any time", rounds)
