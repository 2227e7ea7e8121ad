"""A QEMU that is started with drives and asked what it has made of them, without running its guest."""

from __future__ import annotations

import json
import subprocess
import typing as t

QEMU = "qemu-system-x86_64"
Question = t.Tuple[str, t.Dict[str, t.Any]]


class QemuRefusedError(Exception):
    """QEMU did not start, or ended; with its own words."""


def ask(
    words: t.Sequence[str], questions: t.Sequence[Question], machine: str = "pc", timeout: float = 60
) -> t.List[t.Any]:
    """The answer to each question; None where QEMU said no. Raises QemuRefusedError."""
    told = [{"execute": "qmp_capabilities"}]
    told += [{"execute": name, "arguments": given, "id": number} for number, (name, given) in enumerate(questions)]  # type: ignore[dict-item]
    done = subprocess.run(
        [
            QEMU,
            "-M",
            machine,
            "-accel",
            "tcg",
            "-m",
            "64",
            "-S",
            "-nodefaults",
            "-display",
            "none",
            "-qmp",
            "stdio",
            *words,
        ],
        input="\n".join(json.dumps(each) for each in [*told, {"execute": "quit"}]),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    found = {each["id"]: each.get("return") for each in answers if "id" in each}
    if done.returncode or len(found) < len(questions):
        raise QemuRefusedError(done.stderr.strip())
    return [found[number] for number in range(len(questions))]
