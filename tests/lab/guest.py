"""What the guest sees of an image, written and read by QEMU's own programs: independent of the collection."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ansible_collections.platter.qemu.tests.lab.oracle import qemu_img
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
#: (byte, offset, length): what C(scribble) leaves at the beginning, in the middle and at the end of 4 MiB
PATTERNS = ((0x11, 0, 64 * KIB), (0x22, MIB, 192 * KIB), (0x33, 4 * MIB - 8 * KIB, 8 * KIB))


def filename(path: object, format: str, secret: bool = False) -> str:
    """The image as one argument, whatever its name; the secret object is called sec0."""
    node: dict[str, Any] = {"driver": format, "file": {"driver": _driver(path), "filename": str(path)}}
    if secret and format == "luks":
        node["key-secret"] = "sec0"
    elif secret:
        node["encrypt"] = {"format": "luks", "key-secret": "sec0"}
    return "json:" + json.dumps(node)


def _driver(path: object) -> str:
    return "host_device" if Path(str(path)).is_block_device() else "file"


def _objects(secret: object) -> list[str]:
    return ["--object", f"secret,id=sec0,file={secret}"] if secret else []


def qemu_io(path: object, format: str, *commands: str, secret: object = None) -> str:
    """Runs qemu-io commands on the image; they must succeed."""
    argv = ["qemu-io", *_objects(secret)]
    for command in commands:
        argv += ["-c", command]
    argv.append(filename(path, format, bool(secret)))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0 and "failed" not in said and "error" not in said.lower(), said
    return said


def scribble(
    path: object, format: str, patterns: tuple[tuple[int, int, int], ...] = PATTERNS, secret: object = None
) -> None:
    """Write patterns as the guest would."""
    qemu_io(
        path, format, *(f"write -q -P {byte} {offset} {length}" for byte, offset, length in patterns), secret=secret
    )


def shows(
    path: object, format: str, patterns: tuple[tuple[int, int, int], ...] = PATTERNS, secret: object = None
) -> None:
    """Fails unless the guest reads these patterns."""
    qemu_io(path, format, *(f"read -q -P {byte} {offset} {length}" for byte, offset, length in patterns), secret=secret)


def guest_bytes(path: object, format: str, secret: object = None) -> bytes:
    """All that the guest reads. For small images."""
    with tempfile.TemporaryDirectory() as directory:
        raw = Path(directory) / "raw"
        qemu_img("convert", *_objects(secret), "-O", "raw", filename(path, format, bool(secret)), raw)
        return raw.read_bytes()


def guest_digest(path: object, format: str, secret: object = None) -> str:
    """SHA-256 of all that the guest reads."""
    return hashlib.sha256(guest_bytes(path, format, secret)).hexdigest()


def facts(path: object, format: str) -> dict[str, Any]:
    """C(qemu-img info) of an image of any name."""
    return dict(json.loads(qemu_img("info", "--output=json", filename(path, format))))


def extents(path: object, format: str) -> list[dict[str, Any]]:
    """C(qemu-img map) of an image: where its data lies in the file."""
    return list(json.loads(qemu_img("map", "--output=json", filename(path, format))))


def check(path: object, format: str) -> dict[str, Any]:
    """C(qemu-img check) of an image, whatever it finds."""
    argv = ["qemu-img", "check", "--output=json", filename(path, format)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode in (0, 2, 3), done.stderr
    return dict(json.loads(done.stdout))
