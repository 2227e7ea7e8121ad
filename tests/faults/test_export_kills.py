"""A run that is killed at any moment while it changes the exports of a storage daemon: the next one goes on from there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._tools import own_places
from ansible_collections.platter.qemu.tests.lab import exports
from ansible_collections.platter.qemu.tests.lab.beats import settled
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create

pytestmark = pytest.mark.soak


def serves(daemon: str) -> set[str]:
    """The names that the daemon lists."""
    uri = f"nbd+unix:///?socket={own_places.socket_directory()}/{daemon}.sock"
    told = subprocess.run(["nbdinfo", "--list", "--json", uri], capture_output=True, text=True, check=False)
    return {each["export-name"] for each in json.loads(told.stdout)["exports"]} if told.returncode == 0 else set()


@pytest.mark.parametrize("milliseconds", range(150, 650, 10))
def test_the_next_run_goes_on_from_a_killed_one(tmp_path: Path, milliseconds: int) -> None:
    """What is asked in turn: all served, others options, some of them stopped, none of them."""
    daemon = exports.new_name()
    names = [f"{daemon}-{number}" for number in range(8)]
    images = [str(create(tmp_path / name, "qcow2", "8M")) for name in names]
    entries = [{"name": name, "image": image} for name, image in zip(names, images, strict=True)]
    served = {"format": "qcow2", "daemon": daemon, "exports": entries}
    stopped = [dict(entry, state="stopped" if number % 2 else "present") for number, entry in enumerate(entries)]
    none = [{"name": name, "state": "absent"} for name in names]
    with exports.cleaned(*names):
        for task in (served, dict(served, read_only=False), dict(served, exports=stopped), {"exports": none}):
            exports.killed_after(milliseconds, **task)
            result = call("nbd_export", **task)
            assert not result.get("failed"), result["msg"]
            settled(**task)
            wanted = {each["name"] for each in task["exports"] if each.get("state", "present") == "present"}
            assert serves(daemon) == wanted
    assert not exports.leftovers(daemon)
