"""A disk in three layers under a QEMU that runs, made by the module itself, and the tasks that change its layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create

Task = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """A task on a disk that has the external snapshots s1 and s2."""

    name: str
    task: Task
    switch: str = "none"
    kind: str = "external"
    image: str = "a.qcow2"


TAKES = [
    Step("take", {"name": "s3"}),
    Step("take-symlink", {"name": "s3"}, "symlink"),
    Step("take-internal", {"name": "i"}, kind="internal", image="a.s2.qcow2"),
]
MERGES = [
    Step("commit-active", {"name": "s2", "state": "committed"}),
    Step("commit-active-symlink", {"name": "s2", "state": "committed"}, "symlink"),
    Step("commit-middle", {"name": "s1", "state": "committed"}),
    Step("stream-active", {"name": "s2", "state": "streamed"}, image="a.s2.qcow2"),
    Step("stream-middle", {"name": "s1", "state": "streamed"}, "symlink"),
    Step("delete-middle", {"name": "s1", "state": "absent"}),
]


class Layered:
    """The files of such a disk. C(first): the one that the VM is started with; C(socket): the VM's, for tasks."""

    def __init__(self, step: Step, directory: Path, socket: Path, size: int | str) -> None:
        self.step = step
        self.images = directory / "images"
        self.images.mkdir(parents=True)
        self.named = self.images / "a.qcow2"
        self.socket = socket
        self.first = self.images / ("a.v0.qcow2" if step.switch == "symlink" else "a.qcow2")
        create(self.first, "qcow2", size)
        if step.switch == "symlink":
            self.named.symlink_to(self.first.name)

    def task(self, **more: Any) -> Task:
        """The options of a task about this disk; C(more): those that the step does not say, or says otherwise."""
        asked = {"kind": self.step.kind, "image": self.step.image, **more}
        switch = {"switch": self.step.switch} if asked["kind"] == "external" else {}
        asked["image"] = str(self.images / asked["image"])
        return {"format": "qcow2", "qmp_socket": str(self.socket), "lock_timeout": 10, **switch, **asked}

    def take(self, name: str) -> None:
        """Put another layer on it."""
        result = call("image_snapshot", **self.task(kind="external", image="a.qcow2", name=name))
        assert result["changed"] and not result.get("failed"), result
