"""Drives of a running QEMU: a run that is killed after any thing that it has said to QEMU is mended by the next."""

from __future__ import annotations

import contextlib
import itertools
import typing as t
from pathlib import Path

from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import DrivesSpec
from ansible_collections.platter.qemu.plugins.module_utils._live import execute, plan
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp
from ansible_collections.platter.qemu.tests.lab.amounts import share
from ansible_collections.platter.qemu.tests.lab.live_qemu import SCSI, LiveQemu, Task, image, live_qemu
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE

_LOOKS = ("query-", "qom-get", "qom-list", "x-debug")


class KilledError(Exception):
    """In the place of SIGKILL."""


class DyingQmp(Qmp):
    """Its client dies when it has said so much; what it said last has been carried out, and nobody has heard the answer."""

    said = 0
    last = 10**6

    def execute(self, command: str, *more: t.Any, **named: t.Any) -> t.Any:
        """As always, until then."""
        answer = super().execute(command, *more, **named)
        self.said += not command.startswith(_LOOKS)
        if self.said > self.last:
            raise KilledError
        return answer


def _work(qemu: LiveQemu, wanted: DrivesSpec, last: int = 10**6) -> int:
    """How many things were said to QEMU that change something."""
    steps = plan.plan(wanted, qemu.observe(wanted), True).steps
    with DyingQmp.connect(str(qemu.socket)) as qmp:
        dying = t.cast(DyingQmp, qmp)
        dying.said, dying.last = 0, last
        with contextlib.suppress(KilledError):
            execute.execute(dying, steps, DEADLINE)
        return dying.said


def test_a_run_that_is_killed_anywhere_is_mended_by_the_next(
    tmp_path: Path, count: t.Callable[[str, int], None]
) -> None:
    """Drives with all that they need come, change, and go."""
    one: Task = {"id": "one", "device": "scsi-hd", "image": image(tmp_path / "one"), "throttle": {"iops_total": 3}}
    two = {"id": "two", "device": "usb-storage", "image": image(tmp_path / "two", "1M", "qcow2")}
    empty = {"id": "cd", "device": "scsi-cd", "bus": "scsi0.0", "scsi_id": 5}
    full, other = (dict(empty, image=image(tmp_path / name)) for name in ("first.iso", "second.iso"))
    changed = dict(one, throttle={"iops_total": 9}, cache={"direct": True})
    with live_qemu(tmp_path, *SCSI, "-device", "scsi-cd,id=cd,bus=scsi0.0,scsi-id=5", machine="pc") as qemu:
        states = [qemu.spec(*drives) for drives in ((empty,), (one, two, full), (changed, other), (empty,))]
        for before, after in itertools.pairwise(states):
            qemu.converge(before, purge=True, exact=False)
            places = share(list(range(_work(qemu, after))), 2, "live drives")
            for last in places:
                qemu.converge(before, purge=True, exact=False)
                _work(qemu, after, last)
                qemu.converge(after, purge=True, exact=False)
            count("kills", len(places))
        assert not qemu.nodes()
