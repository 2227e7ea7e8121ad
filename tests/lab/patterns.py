"""Guest data that can be told apart, written by qemu-io, and what a guest sees of an image, read by qemu-img."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import typing as t
from dataclasses import dataclass
from pathlib import Path

from .oracle import qemu_img, try_qemu_img

_GRAIN = 64 << 10
_REACH = 4 << 20
#: facts that differ between two images made the same way, or tell how and not what
_BY_CHANCE = frozenset(
    ("actual-size", "filename", "dirty-flag", "cid", "parent-cid", "full-backing-filename", "children")
)


def write_pattern(path: Path, format: str, seed: int, places: int = 6) -> None:
    """Bytes of the seed at some places within the first 4 MiB."""
    dice = random.Random(seed)
    node = "json:" + json.dumps({"driver": format, "file": {"driver": "file", "filename": str(path)}})
    commands = []
    for at in sorted(dice.sample(range(_REACH // _GRAIN), places)):
        commands += ["-c", f"write -q -P {dice.randrange(1, 255)} {at * _GRAIN} {dice.choice((512, 4096, _GRAIN))}"]
    done = subprocess.run(["qemu-io", *commands, node], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, (done.stdout, done.stderr)


@dataclass(frozen=True)
class View:
    """What an image is to its guest and to QEMU. C(format) None: there is none."""

    format: str | None
    size: int = 0
    digest: str = ""
    facts: str = ""
    mode: int = 0


ABSENT = View(None)


def view(path: Path, formats: t.Sequence[str], scratch: Path) -> View:
    """By the first of C(formats) that QEMU reads it as; the digest is over the guest's first bytes up to data's end."""
    if not os.path.lexists(path):
        return ABSENT
    for format in formats:
        done = try_qemu_img("info", "--output=json", "-f", format, path)
        if done.returncode == 0:
            facts = json.loads(done.stdout)
            mode = path.stat().st_mode & 0o7777
            return View(format, facts["virtual-size"], guest_digest(path, format, scratch), _stable(facts), mode)
    raise AssertionError(f"{path} is none of {formats}: {done.stderr}")


def _stable(facts: t.Mapping[str, t.Any]) -> str:
    def without(value: t.Any) -> t.Any:
        if isinstance(value, dict):
            return {key: without(each) for key, each in value.items() if key not in _BY_CHANCE}
        return [without(each) for each in value] if isinstance(value, list) else value

    return json.dumps(without(facts), sort_keys=True)


def guest_digest(path: Path, format: str, scratch: Path) -> str:
    """Over what the guest sees, trailing zeros left out, so that growth does not count."""
    raw = scratch / "guest.raw"
    qemu_img("convert", "-f", format, "-O", "raw", path, raw)
    digest = hashlib.sha256()
    with open(raw, "rb") as stream:
        at, end = 0, os.fstat(stream.fileno()).st_size
        while at < end:
            try:
                at = os.lseek(stream.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            at -= at % _GRAIN
            data = os.pread(stream.fileno(), _GRAIN, at)
            if data.strip(b"\0"):
                digest.update(b"%d:" % at + data.rstrip(b"\0"))
            at += _GRAIN
    raw.unlink()
    return digest.hexdigest()


def check_status(path: Path, format: str) -> int:
    """Of C(qemu-img check): 0 clean, 2 corrupt, 3 leaks; 0 for a format that has no check."""
    done = try_qemu_img("check", "-q", "-f", format, path)
    return 0 if done.returncode == 63 else done.returncode


def files_of(directory: Path) -> dict[str, str]:
    """Every name in a directory with its mode and the digest of its content."""
    return {str(path.relative_to(directory)): _file(path) for path in sorted(directory.rglob("*"))}


def _file(path: Path) -> str:
    digest = hashlib.sha256(_sparse_bytes(path)).hexdigest() if path.is_file() else "not a file"
    return f"{path.stat().st_mode:o} {digest}"


def _sparse_bytes(path: Path) -> bytes:
    size = path.stat().st_size
    return path.read_bytes() if size < 64 << 20 else repr((size, path.stat().st_blocks)).encode()


def copy_world(source: Path, target: Path) -> Path:
    """A world again as it was: times, holes and attributes too, and under a name that its images know."""
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", "--sparse=always", str(source), str(target)], check=True)
    return target
