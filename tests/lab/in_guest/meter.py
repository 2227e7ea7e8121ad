"""In the guest: ticks, and writes down every gap between two ticks by the guest's clock. meter.py FROM

A line for each gap of more than FROM milliseconds: "END GAP", milliseconds since the guest started.
"""

from __future__ import annotations

import os
import sys
import time

GAPS = "/run/gaps"
TICK = 0.002


def main() -> None:
    """Tick until it is ended."""
    least = int(sys.argv[1]) / 1000
    out = os.open(GAPS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
    last = time.monotonic()
    while True:
        time.sleep(TICK)
        now = time.monotonic()
        if now - last > least:
            os.write(out, b"%d %d\n" % (now * 1000, (now - last) * 1000))
            now = time.monotonic()
        last = now


main()
