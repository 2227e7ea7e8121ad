"""The program that looks after an array, on its host: what becomes of it while it is exchanged for another."""

from __future__ import annotations

import os
import resource
import uuid
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._keeper import observe, places
from ansible_collections.platter.qemu.tests.lab.modules import call

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


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    monkeypatch.setattr(places, "_TOP", str(tmp_path / "arrays"))
    made = Keeper()
    yield made
    assert not made.call(state="absent").get("failed")
    assert not made.supervisors()


def test_without_room_for_a_new_one_the_old_keeper_goes_on(keeper: Keeper) -> None:
    assert keeper.call()["changed"]
    before = keeper.supervisors()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LITTLE_ROOM, limits[1]))
    try:
        told = keeper.call(interval=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert told["failed"] and "File too large" in told["msg"] and not told["changed"], told
    assert keeper.supervisors() == before != []
    assert not keeper.call()["changed"]
