"""Paired measurements against what one would use instead: a table of ratios, and .build/bench.json.

Each round times ours and theirs one after the other, so that a slow minute of the machine slows both; the ratio is the
median of the rounds' ratios. Names on the command line choose cases; ROUNDS sets their number.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from array_cases import ARRAY_CASES
from cases import CASES, COLLECTIONS, Case
from drive_cases import DRIVE_CASES
from nbd_cases import NBD_CASES

ROUNDS = int(os.environ.get("ROUNDS", "7"))
RESULT = Path(__file__).resolve().parents[2] / ".build" / "bench.json"


def seconds(step: object, directory: Path) -> float:
    """How long one step takes."""
    started = time.perf_counter()
    step(directory)  # type: ignore[operator]
    return time.perf_counter() - started


def measure(case: Case, directory: Path) -> dict[str, object]:
    """The row of one case; both sides run once before they count."""
    case.prepare(directory)
    ratios = []
    for number in range(-1, ROUNDS):
        case.before_ours(directory)
        ours = seconds(case.ours, directory)
        case.before_theirs(directory)
        theirs = seconds(case.theirs, directory)
        case.compare(directory)
        if number >= 0:
            ratios.append(theirs / ours if case.speedup else ours / theirs)
    return row(case, statistics.median(ratios))


def row(case: Case, ratio: float) -> dict[str, object]:
    """One entry of bench.json."""
    met = ratio >= case.goal if case.speedup else ratio <= case.goal
    return {"name": case.name, "ratio": round(ratio, 3), "goal": case.goal, "met": met, "rounds": ROUNDS}


def show(case: Case, result: dict[str, object]) -> None:
    """One line of the table."""
    sign = ">=" if case.speedup else "<="
    verdict = "met" if result["met"] else "NOT MET"
    print("%-58s %9.3f  %s %-6g %s" % (case.name, result["ratio"], sign, case.goal, verdict), flush=True)


def main() -> int:
    """Measure the chosen cases; the status tells whether all goals are met."""
    # for those that run modules in this process
    sys.path[:0] = [str(COLLECTIONS), str(Path(__file__).resolve().parents[2])]
    results = []
    print("%-58s %9s  %-9s n=%d, medians of paired ratios" % ("case", "ratio", "goal", ROUNDS), flush=True)
    for case in (
        case
        for case in (*CASES, *NBD_CASES, *DRIVE_CASES, *ARRAY_CASES)
        if not sys.argv[1:] or any(word in case.name for word in sys.argv[1:])
    ):
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            try:
                result = measure(case, Path(directory))
            finally:
                case.clean(Path(directory))
        show(case, result)
        results.append(result)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(results, indent=1) + "\n")
    return 0 if all(result["met"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
