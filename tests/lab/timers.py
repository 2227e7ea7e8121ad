"""The program of a timer with its settings, as the host runs it: with no Ansible."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from ansible_collections.platter.qemu.plugins.module_utils._timer import read_spec, take
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_programs, own_zipapp

NAME = "nightly-%Y%m%d-%H%M%S"
Done = tuple[int, list[str], dict[str, Any]]


class Timer:
    """The program and its settings in a directory of the test's."""

    def __init__(self, directory: Path, *entries: dict[str, Any]) -> None:
        directory.mkdir()
        self.told, self.program = directory / "snapshots.json", directory / "snapshots.pyz"
        params = {"name": "test", "on_calendar": "daily", "snapshots": list(entries), "lock_timeout": 1}
        self.told.write_text(read_spec.read_spec(params).settings)
        self.program.write_bytes(own_zipapp.build(take))
        self.words = (*own_programs.words(str(self.program)), str(self.told))

    def status(self) -> dict[str, Any]:
        """What the last run says of itself."""
        return dict(json.loads(self.told.with_name("status.json").read_text()))

    def run(self, *under: str) -> Done:
        """Exit status, lines of the journal, and the status file."""
        done = subprocess.run(
            [*under, *self.words], cwd="/", env={"LC_ALL": "C"}, capture_output=True, text=True, check=False
        )
        assert done.stdout == "" and "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stderr.splitlines(), self.status()


def take_and_prune(image: Path, keep: int, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    one = {"image": str(image), "format": "qcow2", **more}
    pruned = {key: value for key, value in one.items() if key != "switch"}
    return {**one, "name": NAME}, {**pruned, "state": "pruned", "match": "nightly-*", "retention": {"keep_last": keep}}
