"""The program that looks after an array, on its host: what becomes of it while it is exchanged for another."""

from __future__ import annotations

import os
import resource
import signal
import sys
import uuid
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._keeper import observe, places
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.programs import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="keepers are root's")
#: bytes; the program does not fit
LITTLE_ROOM = 4096


class Keeper:
    """Of an array whose servers nobody reaches."""

    def __init__(self) -> None:
        self.name = "test-%d" % os.getpid()
        legs = [{"name": f"{self.name}-{n}", "source": f"nbd://127.0.0.{n}:1/leg"} for n in (1, 2)]
        self._task = {"name": self.name, "uuid": str(uuid.uuid4()), "legs": legs, "supervisor": "process"}

    def call(self, **more: Any) -> dict[str, Any]:
        """The result of the module, a failed one too."""
        return call("md_keeper", **{**self._task, "interval": 1, **more})

    def supervisors(self) -> list[int]:
        return observe.supervisors(self.name)

    def begin(self) -> list[int]:
        """Its supervisor, once it has started it: between fork and exec there are two of these."""
        assert self.call()["changed"]
        wait_until(lambda: observe.keepers(self.name), "it runs")
        return self.supervisors()


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    monkeypatch.setattr(places, "_TOP", str(tmp_path / "arrays"))
    made = Keeper()
    yield made
    assert not made.call(state="absent").get("failed")
    assert not made.supervisors()


def test_without_room_for_a_new_one_the_old_keeper_goes_on(keeper: Keeper) -> None:
    before = keeper.begin()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LITTLE_ROOM, limits[1]))
    try:
        told = keeper.call(interval=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert told["failed"] and "File too large" in told["msg"] and not told["changed"], told
    assert keeper.supervisors() == before != []
    assert not keeper.call()["changed"]


@pytest.mark.parametrize("killed_at", ["os.kill", "subprocess.Popen"])
def test_a_run_that_is_killed_while_it_exchanges_one_is_mended_by_the_next(keeper: Keeper, killed_at: str) -> None:
    """As it is about to end the old one, and to start the new one."""
    before = keeper.begin()
    run_until(killed_at, lambda: keeper.call(interval=2))
    assert keeper.supervisors() == (before if killed_at == "os.kill" else [])
    told = keeper.call(interval=2)
    assert told["actions"] == [f"Start the keeper of array {keeper.name}."], told
    assert keeper.supervisors() not in (before, [])
    assert not keeper.call(interval=2)["changed"]


def test_one_that_has_lost_its_supervisor_is_exchanged_for_one_that_has_one(keeper: Keeper) -> None:
    os.kill(keeper.begin()[0], signal.SIGKILL)
    wait_until(lambda: not keeper.supervisors(), "its supervisor has ended")
    alone = observe.processes_of(keeper.name)
    assert alone and keeper.call()["actions"] == [f"Start the keeper of array {keeper.name}."]
    assert keeper.supervisors() and not set(alone).intersection(observe.processes_of(keeper.name))


def run_until(event: str, function: Callable[[], object]) -> None:
    """Have it killed as it is about to do that (an event of sys.addaudithook)."""

    def end(told: str, _args: object) -> None:
        if told == event:
            os._exit(9)

    child = os.fork()
    if child == 0:
        sys.addaudithook(end)
        function()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
