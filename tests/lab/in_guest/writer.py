"""In the guest: writes block after block, each on the disk before the next. writer.py SLOTS SPACING TARGET...

Number n goes to slot (n - 1) % SLOTS of every target, one target after the other: see tests/lab/sequence.py.
"""

from __future__ import annotations

import mmap
import os
import sys

BLOCK = 4096
WRITTEN = "/run/written"


def main() -> None:
    """Write until it is ended; WRITTEN says the last number that is on all targets."""
    slots, spacing = int(sys.argv[1]), int(sys.argv[2])
    targets = [os.open(name, os.O_WRONLY | os.O_DIRECT | os.O_DSYNC) for name in sys.argv[3:]]
    done = os.open(WRITTEN, os.O_WRONLY | os.O_CREAT, 0o600)
    page = mmap.mmap(-1, BLOCK)
    number = int(os.environ.get("AFTER", "0"))
    while True:
        number += 1
        page[:] = b"%016x" % number * (BLOCK // 16)
        for target in targets:
            os.pwrite(target, page, (number - 1) % slots * spacing)
        os.pwrite(done, b"%020d" % number, 0)


main()
