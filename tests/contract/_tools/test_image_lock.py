"""Our lock against real QEMU programs, and theirs against ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import RefusedError
from ansible_collections.platter.qemu.plugins.module_utils._tools.image_lock import (
    hold_image_lock,
    image_lock,
    locked_bytes,
)
from ansible_collections.platter.qemu.tests.lab.programs import exported, running

FORMATS = ("raw", "qcow2")
COMMANDS = {
    "info": ("qemu-img", "info", "-f"),
    "info shared": ("qemu-img", "info", "-U", "-f"),
    "check": ("qemu-img", "check", "-f"),
    "read": ("qemu-io", "-r", "-c", "read 0 512", "-f"),
    "write": ("qemu-io", "-c", "write 0 512", "-f"),
    "resize": ("qemu-img", "resize", "-q", "-f"),
}
READING = {"info", "info shared", "check", "read"}


@pytest.fixture(params=FORMATS)
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"image.{request.param}"
    subprocess.run(["qemu-img", "create", "-q", "-f", request.param, path, "16M"], check=True)
    return path


def allowed(image: Path) -> set[str]:
    """What QEMU may do with the image just now."""
    format = image.suffix[1:]
    working = set()
    for name, command in COMMANDS.items():
        if name == "check" and format == "raw":
            continue
        more = ["+1M"] if name == "resize" else []
        done = subprocess.run([*command, format, image, *more], capture_output=True, text=True, check=False)
        assert done.returncode == 0 or "lock" in done.stderr, done.stderr
        working |= {name} if done.returncode == 0 else set()
    return working


def everything(image: Path, *but: str) -> set[str]:
    return set(COMMANDS) - set(but) - ({"check"} if image.suffix == ".raw" else set())


def test_without_a_lock_everything_is_allowed(image: Path) -> None:
    assert allowed(image) == everything(image)


def test_writers_are_kept_away_and_readers_are_not(image: Path) -> None:
    with image_lock(str(image)):
        assert allowed(image) == everything(image, "write", "resize")
    assert allowed(image) == everything(image)


def test_readers_are_kept_away_too_when_asked(image: Path) -> None:
    with image_lock(str(image), readers=False):
        assert allowed(image) == {"info", "info shared"}
    assert allowed(image) == everything(image)


def test_the_lock_survives_opening_and_closing_the_image_again(image: Path) -> None:
    with image_lock(str(image)):
        os.close(os.open(image, os.O_RDWR))
        assert "write" not in allowed(image)


def test_the_lock_ends_with_its_holder(image: Path) -> None:
    hold = (
        "import sys, time; from ansible_collections.platter.qemu.plugins.module_utils._tools.image_lock import *\n"
        "with image_lock(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    )
    environment = ["env", "PYTHONPATH=" + os.pathsep.join(sys.path)]
    with running(*environment, sys.executable, "-c", hold, image) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        assert "write" not in allowed(image)
        process.kill()
        process.wait()
        assert "write" in allowed(image)


@pytest.mark.parametrize("readers", [True, False])
def test_a_qemu_that_writes_is_seen(image: Path, tmp_path: Path, readers: bool) -> None:
    with exported(image, image.suffix[1:], tmp_path / "sock"):
        with pytest.raises(RefusedError) as caught, image_lock(str(image), readers=readers):
            pass
        assert caught.value.reason == "image_in_use"
        assert 101 in caught.value.facts["evidence"]["locked_bytes"]
    with image_lock(str(image), readers=readers):
        pass


def test_a_qemu_that_reads_is_in_the_way_only_when_readers_are(image: Path, tmp_path: Path) -> None:
    with exported(image, image.suffix[1:], tmp_path / "sock", "-r"):
        with image_lock(str(image)):
            pass
        with pytest.raises(RefusedError), image_lock(str(image), readers=False):
            pass


def test_a_refused_lock_is_taken_back(image: Path, tmp_path: Path) -> None:
    fd = os.open(image, os.O_RDONLY)
    try:
        with exported(image, image.suffix[1:], tmp_path / "sock"), pytest.raises(RefusedError):
            hold_image_lock(fd, str(image))
        assert allowed(image) == everything(image)
    finally:
        os.close(fd)


def test_several_of_us_may_hold_it_and_each_sees_the_other(image: Path) -> None:
    with image_lock(str(image)), image_lock(str(image)) as second:
        assert locked_bytes(second) == {201, 203}


def test_a_foreign_write_lock_is_a_refusal(image: Path) -> None:
    lock = (
        "import fcntl, sys; image = open(sys.argv[1], 'r+b')\n"
        "fcntl.lockf(image, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    )
    with running(sys.executable, "-c", lock, image) as process:
        assert process.stdout is not None and process.stdout.readline()
        with pytest.raises(RefusedError) as caught, image_lock(str(image)):
            pass
    assert caught.value.reason == "image_in_use"
