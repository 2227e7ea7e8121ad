"""Reads from reports and logs how many tests passed and failed. A step that ran no test has failed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree


class Counts(NamedTuple):
    """Tests of one step."""

    passed: int
    failed: int
    skipped: int = 0


def count_one(returncode: int, log: Path) -> Counts:
    """The step is one test."""
    return Counts(1, 0) if returncode == 0 else Counts(0, 1)


def _at_least_one_failed(returncode: int, counts: Counts) -> Counts:
    ran = counts.passed + counts.failed
    if counts.failed == 0 and (returncode != 0 or ran == 0):
        return counts._replace(failed=1)
    return counts


def count_pytest(returncode: int, log: Path) -> Counts:
    """From the junit report beside the log."""
    report = log.with_suffix(".xml")
    if not report.exists():
        return Counts(0, 1)
    total = failed = skipped = 0
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        total += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
    return _at_least_one_failed(returncode, Counts(max(total - failed - skipped, 0), failed, skipped))


def _listed(text: str, kind: str) -> int:
    match = re.search(rf"The (\d+) {kind} test\(s\) listed below", text)
    return int(match.group(1)) if match else 0


def count_sanity(returncode: int, log: Path) -> Counts:
    """Sanity tests by name and Python; those without a file to look at do not count, those that lack a tool fail."""
    text = log.read_text(errors="replace")
    sections = re.split(r"^Running sanity test ", text, flags=re.MULTILINE)[1:]
    ran = [section for section in sections if "No tests applicable." not in section]
    broken = len(re.findall(r"Skipping sanity test .* due to missing|Required program .* not found", text))
    failed = _listed(text, "sanity")
    return _at_least_one_failed(returncode, Counts(max(len(ran) - failed, 0), failed + broken))


def count_integration(returncode: int, log: Path) -> Counts:
    """Integration targets; one that ansible-test excluded counts as failed."""
    text = log.read_text(errors="replace")
    targets = set(re.findall(r"^Running (\S+) integration test (?:role|script)", text, re.MULTILINE))
    excluded = {name for names in re.findall(r"Excluding \w+ tests .*: (.*)", text) for name in names.split(", ")}
    failed = _listed(text, "integration")
    return _at_least_one_failed(returncode, Counts(max(len(targets) - failed, 0), failed + len(excluded - targets)))
