"""In the guest: lets nothing else run on its only processor. hog.py MILLISECONDS"""

from __future__ import annotations

import os
import sys
import time


def main() -> None:
    """Before the meter in the scheduler's eyes, without a pause."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(90))
    end = time.monotonic() + int(sys.argv[1]) / 1000
    while time.monotonic() < end:
        pass


main()
