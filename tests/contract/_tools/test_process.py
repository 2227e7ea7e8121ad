"""Programs that hang are ended, those that work are not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._tools import process
from ansible_collections.platter.qemu.tests.lab.programs import wait_until

#: longer than the patience of these tests, with and without a processor
BUSY = "import time; end = time.monotonic() + 3\nwhile time.monotonic() < end: pass\nprint('done')"
NAPPING = "import time\nfor _ in range(30): time.sleep(0.1)\nprint('done')"


def ended(argv: list[str], patience: float = 0.5, **how: object) -> errors.ToolTimeoutError:
    started = time.monotonic()
    with pytest.raises(errors.ToolTimeoutError) as caught:
        process.Runner(patience=patience)(argv, **how)
    assert time.monotonic() - started < 50
    assert caught.value.facts["reason"] == "tool_timeout"
    return caught.value


def test_what_inspects_has_its_time() -> None:
    assert "it has not come to its end for 0.5 s" in ended(["sleep", "60"], limits=process.INSPECTION).message


def test_what_copies_may_not_do_nothing() -> None:
    assert ended(["sleep", "60"], idle=True).message.endswith("sleep 60 was ended: it has done nothing for 0.5 s")


def is_over(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def test_what_it_has_started_is_ended_too(tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    for patience in (0.5, 5, 40):  # until it has come as far, on a busy machine
        ended(["sh", "-c", f"sleep 60 & echo $! > {noted}; wait"], patience, idle=True)
        if noted.exists() and noted.read_text().endswith("\n"):
            break
    wait_until(lambda: is_over(int(noted.read_text())), "what was killed has come to its end")


@pytest.mark.parametrize("program", [BUSY, NAPPING], ids=["busy", "napping"])
def test_what_does_anything_goes_on(program: str) -> None:
    rc, stdout, _stderr = process.Runner(patience=2)(["python3", "-c", program], idle=True)
    assert (rc, stdout) == (0, "done\n")


def test_output_of_a_patient_run_is_whole() -> None:
    program = "import time, sys\nfor n in range(30): print('x' * 100000, flush=True); time.sleep(0.1)"
    _rc, stdout, _stderr = process.Runner(patience=2)(["python3", "-c", program], idle=True)
    assert len(stdout) == 30 * 100001


def test_a_long_answer_is_whole_however_late_it_is_read() -> None:
    """QEMU writes without waiting for who reads, and leaves out the rest when it is told to quit."""
    program = "import os, sys; sys.stdin.read(); os.set_blocking(1, False); os.write(1, b'x' * 300000)"
    _rc, stdout, stderr = process.Runner()(["python3", "-c", program], told="quit")
    assert (len(stdout), stderr) == (300000, "")
