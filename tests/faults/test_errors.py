"""No space, no quota, a failing disk: the task fails, says what is so now, leaves the old image and nothing else."""

from __future__ import annotations

import itertools
import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab.amounts import SOAK, share
from ansible_collections.platter.qemu.tests.lab.loops import mounted
from ansible_collections.platter.qemu.tests.lab.trials import Trials
from ansible_collections.platter.qemu.tests.lab.verbs import OTHERS, VERBS, Verb
from ansible_collections.platter.qemu.tests.lab.zygote import Zygote

Count = t.Callable[[str, int], None]
ERRORS = ("ENOSPC", "EIO", "EDQUOT")
#: where these fail, putting things away may fail as well: the next run does it then
_TIDYING = ("unlink", "unlinkat", "rmdir")
#: what fails here has not reached the disk for certain
_DURABLE = ("fsync",)
#: KiB left on the file system
_LEFT = (0, 64, 256, 1024, 2048, 4096, 8192, 12 << 10, 16 << 10, 20 << 10, 32 << 10, 64 << 10)
CHANGING = [*VERBS, *(verb for verb in OTHERS if verb.name not in ("refused", "nothing-to-do", "remove-with-backup"))]


def _chosen(trials: Trials) -> list[tuple[tuple[str, int], str]]:
    """By default one error at each of a share of the calls."""
    points = trials.points()
    if SOAK:
        return list(itertools.product(points, ERRORS))
    kept = share(points, 6, "errors " + trials.verb.name)
    return [(point, ERRORS[at % len(ERRORS)]) for at, point in enumerate(kept)]


@pytest.mark.parametrize("verb", CHANGING, ids=lambda verb: verb.name)
def test_an_error_of_the_kernel_is_told_and_harms_nothing(
    verb: Verb, zygote: Zygote, place: Path, count: Count
) -> None:
    trials = Trials(verb, zygote, place)
    chosen = _chosen(trials)
    for (call, when), error in chosen:
        trials.reset()
        child = trials.traced("-e", "trace=" + call, "-e", f"inject={call}:error={error}:when={when}")
        child.wait()
        try:
            assert call not in _DURABLE or child.result().get("failed"), "claims to be durable, and is not"
            trials.answers_truly(child.result(), tidy=call not in _TIDYING)
            trials.converges()
        except AssertionError as exc:
            raise AssertionError(f"{verb.name}, {error} at {call} {when}: {exc}") from exc
    count("injected errors", len(chosen))


def _fill(directory: Path, left: int) -> Path:
    """A file that leaves C(left) KiB."""
    ballast = directory / "ballast"
    facts = os.statvfs(directory)
    size = facts.f_bavail * facts.f_frsize - (left << 10)
    with open(ballast, "wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, max(size, 1))
    return ballast


@pytest.mark.parametrize("verb", CHANGING, ids=lambda verb: verb.name)
def test_a_full_file_system_is_told_and_harms_nothing(verb: Verb, zygote: Zygote, place: Path, count: Count) -> None:
    small = place / "small"
    small.mkdir()
    with mounted("tmpfs", small, "-t", "tmpfs", "-o", "size=96m"):
        trials = Trials(verb, zygote, place, small / "world")
        steps = share(_LEFT, 3, "full " + verb.name)
        for left in steps:
            trials.reset()
            ballast = _fill(small, left)
            result = trials.run()
            try:
                trials.answers_truly(result)
                ballast.unlink()
                trials.converges()
            except AssertionError as exc:
                raise AssertionError(f"{verb.name} with {left} KiB left: {exc}") from exc
        count("full file systems", len(steps))
