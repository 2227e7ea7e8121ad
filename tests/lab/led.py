"""Images whose headers an ordinary user has written, in a directory of root's with a file for root only."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Iterator

from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img

NOBODY = 65534
SECRET = b"root's own" * 6554  # 64 KiB and a bit


@contextlib.contextmanager
def place_of_roots() -> Iterator[Path]:
    """Everybody reaches it; C(secret) is for root only."""
    with tempfile.TemporaryDirectory(prefix="led-") as directory:
        found = Path(directory)
        found.chmod(0o755)
        (found / "secret").write_bytes(SECRET)
        (found / "secret").chmod(0o600)
        yield found


def given(path: Path, mode: int = 0o600, owner: int = NOBODY, group: int = 0) -> Path:
    """To that user: as the disk of a VM is its user's."""
    os.chown(path, owner, group)
    path.chmod(mode)
    return path


def led(path: Path, base: Path, size: str = "1000K", format: str = "raw") -> Path:
    """As its owner can make it: an overlay on whatever C(base) is."""
    qemu_img("create", "-q", "-f", "qcow2", "-u", "-b", base, "-F", format, path, size)
    return given(path)


def with_data_file(path: Path, data: Path) -> Path:
    """The header names C(data), as its owner can rewrite it; as much of it as there is."""
    own = path.with_name("d" * (len(str(data)) - len(str(path.parent)) - 1))
    create(path, "qcow2", "64K", f"data_file={own},data_file_raw=on")
    path.write_bytes(path.read_bytes().replace(os.fsencode(own), os.fsencode(data)))
    own.unlink()
    return given(path)
