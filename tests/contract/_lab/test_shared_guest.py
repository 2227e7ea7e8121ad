"""A guest of many tests: what a test has left in it that failed fails no other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

#: a program in the place of a guest: a test is told its process
TESTS = """
import contextlib, subprocess, types
import pytest
from ansible_collections.platter.qemu.tests.lab.shared_guest import shared

@contextlib.contextmanager
def boot():
    with subprocess.Popen(["sleep", "60"]) as process:
        yield types.SimpleNamespace(process=process)
        process.kill()

@pytest.fixture(scope="module")
def one_for_all(request):
    with shared(request.session, boot) as made:
        yield made

@pytest.fixture
def guest(one_for_all):
    return one_for_all.get()

@pytest.fixture
def unsound():
    yield
    assert False, "what is left is no good"

def test_a(guest): print("one", guest.process.pid)
def test_b(guest): print("one", guest.process.pid); assert False
def test_c(guest, unsound): print("two", guest.process.pid)
def test_d(guest): print("three", guest.process.pid); guest.process.kill(); guest.process.wait()
def test_e(guest): print("four", guest.process.pid)
"""


def test_the_test_after_one_that_failed_or_ended_the_guest_has_another(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "pytest", "-n", "1", "-rA", "-p", "no:cacheprovider", "test_it.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    told = [
        line.split() for line in done.stdout.splitlines() if line.split()[:1] in (["one"], ["two"], ["three"], ["four"])
    ]
    assert "1 failed, 4 passed, 1 error" in done.stdout, done.stdout + done.stderr
    guests = [{pid for word, pid in told if word == name} for name in ("one", "two", "three", "four")]
    assert [len(each) for each in guests] == [1] * 4 and len(set.union(*guests)) == 4, told
