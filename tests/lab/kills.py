"""A module that is killed as it is about to make one certain system call."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any, Iterable, Mapping

from ansible_collections.platter.qemu.tests.lab import strace
from ansible_collections.platter.qemu.tests.lab.zygote import Child, Zygote

#: a system call and its number among the calls of that name, from 1
Point = tuple[str, int]


def points_of(
    zygote: Zygote, task: Mapping[str, Any], log: Path, names: Iterable[str], module: str = "image_snapshot"
) -> list[Point]:
    """All calls of these C(names) that the module makes when nothing disturbs it; the task must change something."""
    child = _traced(zygote, module, task, log, "-e", "trace=" + ",".join(names))
    child.wait()
    assert child.result().get("changed") and not child.result().get("failed"), child.result()
    most = strace.most_by_one([each for each in strace.calls_of(log) if each.pid == child.pid])
    return [(name, at) for name in sorted(most) for at in range(1, most[name] + 1)]


def after(log: Path, words: str) -> Point:
    """The next message after the one with these words, in the log of C(points_of)."""
    sent = [each.text for each in strace.calls_of(log) if each.name == "sendto"]
    return "sendto", 2 + next(at for at, text in enumerate(sent) if words in text)


def killed_at(zygote: Zygote, task: Mapping[str, Any], log: Path, point: Point, module: str = "image_snapshot") -> bool:
    """Whether it was: how often a module hears of a job is not the same each time, so it may end well before."""
    name, at = point
    inject = f"inject={name}:signal=KILL:when={at}"
    child = _traced(zygote, module, task, log, "-e", "trace=" + name, "-e", inject)
    killed = child.wait() == -signal.SIGKILL
    assert killed or not child.result().get("failed"), child.result()
    return killed


def _traced(zygote: Zygote, module: str, task: Mapping[str, Any], log: Path, *options: str) -> Child:
    child = zygote.start(module, task, stopped=True)
    # servers of devices go on
    with strace.tracing(child, log, *options, follow=module != "host_device"):
        pass
    return child
