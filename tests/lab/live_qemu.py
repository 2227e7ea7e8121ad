"""A QEMU that does not run its guest, with a QMP socket: what needs none to answer takes a tenth of a second."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import typing as t
from pathlib import Path

from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._drive import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import DrivesSpec
from ansible_collections.platter.qemu.plugins.module_utils._live import execute, observe, plan
from ansible_collections.platter.qemu.plugins.module_utils._live.state import LiveState
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE, wait_for_monitor

QUIET = ("-accel", "tcg", "-m", "64", "-S", "-nodefaults", "-no-user-config", "-display", "none")
#: C(q35) with places to plug into, and C(pc), whose first bus is one
PORTS = tuple(word for number in range(1, 5) for word in ("-device", f"pcie-root-port,id=port{number},slot={number}"))
SCSI = ("-device", "virtio-scsi-pci,id=scsi0")
Task = t.Dict[str, t.Any]


class LiveQemu:
    """C(qmp): the test's own session, by a socket of its own; C(socket): for the code under test."""

    def __init__(self, directory: Path, words: t.Sequence[str], machine: str) -> None:
        self.directory, self.machine = directory, machine
        self.socket, watch = directory / "qmp", directory / "watch"
        monitors = [word for path in (self.socket, watch) for word in ("-qmp", f"unix:{path},server=on,wait=off")]
        command = ["qemu-system-x86_64", "-M", machine, *QUIET, *monitors, *words]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=directory)
        wait_for_monitor(self.process, watch)
        for path in (self.socket, watch):
            path.chmod(0o600)
        self.qmp = Qmp.connect(str(watch), DEADLINE)

    def spec(self, *drives: Task, **more: t.Any) -> DrivesSpec:
        """What a task would say."""
        return read_spec.read({"drives": list(drives), **more}, self.machine)

    def observe(self, spec: DrivesSpec) -> LiveState:
        """In a session of its own."""
        with Qmp.connect(str(self.socket), DEADLINE) as qmp:
            return observe.observe(qmp, spec)

    def plan(self, spec: DrivesSpec, **how: t.Any) -> plan.LivePlan:
        """Without carrying it out."""
        return plan.plan(spec, self.observe(spec), **how)

    def converge(self, spec: DrivesSpec, seconds: float = 30.0, exact: bool = True, **how: t.Any) -> plan.LivePlan:
        """Look, plan, carry out; then it is as predicted (C(exact): all of it), and there is nothing more to do."""
        before = self.observe(spec)
        found = plan.plan(spec, before, **how)
        with Qmp.connect(str(self.socket), DEADLINE) as qmp:
            execute.execute(qmp, found.steps, seconds)
        after = self.observe(spec)
        if exact:
            _assert_same(after, predict(before, found.steps))
        again = plan.plan(spec, after, **how)
        assert not again.steps and set(again.needs_restart) <= set(found.needs_restart), again
        return found

    def nodes(self) -> t.Dict[str, t.Dict[str, t.Any]]:
        """What QEMU itself tells, by name."""
        return {each["node-name"]: each for each in self.qmp.execute("query-named-block-nodes", {"flat": True})}

    def devices(self) -> t.Dict[str, str]:
        """Those with names, and their kinds."""
        told = self.qmp.execute("qom-list", {"path": "/machine/peripheral"})
        return {each["name"]: each["type"][6:-1] for each in told if each["type"].startswith("child<")}

    def get(self, path: str, name: str) -> t.Any:
        """A property."""
        return self.qmp.execute("qom-get", {"path": path, "property": name})

    def end(self) -> None:
        """Whatever it does."""
        self.qmp.close()
        self.process.kill()
        self.process.wait(DEADLINE)


@contextlib.contextmanager
def live_qemu(directory: Path, *words: str, machine: str = "q35") -> t.Iterator[LiveQemu]:
    """Ended with the block. C(directory): for sockets, and what relative names are relative to."""
    qemu = LiveQemu(directory, words, machine)
    try:
        yield qemu
    finally:
        qemu.end()


def image(path: Path, size: str = "1M", format: str = "raw") -> Task:
    """A new image, as a task names it."""
    subprocess.run(["qemu-img", "create", "-q", "-f", format, str(path), size], check=True)
    return {"path": str(path), "format": format}


def blockdev(**tree: t.Any) -> t.Tuple[str, str]:
    """Arguments for a node; C(node_name) and the like with underlines."""
    return "-blockdev", json.dumps({key.replace("_", "-"): value for key, value in tree.items()})


def _assert_same(seen: LiveState, predicted: LiveState) -> None:
    for each in dataclasses.fields(LiveState):
        assert not each.compare or getattr(seen, each.name) == getattr(predicted, each.name), each.name
