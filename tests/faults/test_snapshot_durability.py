"""What is on stable storage before something else counts on it, by the system calls that see to that."""

from __future__ import annotations

import contextlib
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab import strace
from ansible_collections.platter.qemu.tests.lab.machine import machine
from ansible_collections.platter.qemu.tests.lab.snapshots import disk
from ansible_collections.platter.qemu.tests.lab.zygote import Zygote


@pytest.mark.parametrize("running", [False, True], ids=["stopped", "running"])
def test_an_overlay_in_another_directory_is_durable_before_anything_leads_there(
    zygote: Zygote, place: Path, running: bool
) -> None:
    one = disk(place, "external", "symlink")
    elsewhere, socket, log = place / "elsewhere", place / "qmp", place / "log"
    elsewhere.mkdir()
    options = one.task(name="s1", overlay=str(elsewhere / "layer.qcow2"))
    with contextlib.ExitStack() as vm:
        if running:
            vm.enter_context(machine(socket, one.active))
            options["qmp_socket"] = str(socket)
        child = zygote.start("image_snapshot", options, stopped=True)
        with strace.tracing(child, log, "-y", "-e", "trace=fsync,link,rename,setxattr"):
            child.wait()
        assert child.result()["changed"], child.result()
    calls = [(each.name, each.text) for each in strace.calls_of(log)]
    named = _first(calls, lambda name, text: name == "link" and text.endswith(f'"{elsewhere}/layer.qcow2") = 0'))
    durable = _first(calls[named:], lambda name, text: name == "fsync" and f"<{elsewhere}>" in text) + named
    led = _first(calls, lambda name, text: name == "rename" and f'"{one.image}")' in text)
    settled = _first(calls, lambda name, text: name == "setxattr" and "settled" in text)
    assert named < durable < min(led, settled), calls


def _first(calls: list[tuple[str, str]], wanted: t.Callable[[str, str], bool]) -> int:
    return next(number for number, call in enumerate(calls) if wanted(*call))
