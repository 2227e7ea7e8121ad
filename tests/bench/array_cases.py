"""What a VM reads of a RAID1 over two NBD servers, against one of its legs: in an emulated guest, two readers at once."""

from __future__ import annotations

import contextlib
import typing as t
from pathlib import Path

from cases import MIB, Case

SIZE = 48
UUID = "6f9b0c1e-6f0c-4c43-9a5e-0f4b3a0d7c11"
#: each reads its half, and nothing is in the guest's memory
READ = """
echo 3 >/proc/sys/vm/drop_caches
for half in 0 1; do dd if={0} of=/dev/null bs=1M count={1} skip=$((half * {1})) 2>/dev/null & done
wait
"""


class ReadsOfRaid1(Case):
    """C(speed): MiB in a second that each server reads at most; 0: what it can, and then the guest's processor is the limit."""

    def __init__(self, speed: int, goal: float) -> None:
        self.speed, self.goal = speed, goal
        servers = "servers of %d MiB/s" % speed if speed else "servers without a limit"
        self.name = "RAID1 over two %s, read in a guest / one leg" % servers

    def prepare(self, directory: Path) -> None:
        from ansible_collections.platter.qemu.tests.lab.array_guest import running_arrays
        from ansible_collections.platter.qemu.tests.lab.arrays import Array
        from ansible_collections.platter.qemu.tests.lab.stores import stores

        self._open = contextlib.ExitStack()
        self.guest = self._open.enter_context(running_arrays(directory))
        servers = self._open.enter_context(stores(directory, 2, "%dM" % (SIZE + 2), self.speed * MIB))
        self.array = Array(self.guest, "data", UUID, servers)
        size = {"identity": {"signature": "none", "size": "%dM" % (SIZE + 2)}}
        for result in (self.array.attach(**size), self.array.call()):
            assert not result.get("failed"), result["msg"]
        self.array.wait("clean")

    def _read(self, path: str) -> None:
        self.guest.run(READ.format(path, SIZE // 2))

    def ours(self, directory: Path) -> None:
        self._read(self.array.link)

    def theirs(self, directory: Path) -> None:
        self._read("/dev/platter/" + self.array.device(0))

    def clean(self, directory: Path) -> None:
        self._open.close()


ARRAY_CASES: t.Sequence[Case] = (ReadsOfRaid1(8, 1.5), ReadsOfRaid1(0, 0.8))
