# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Our own lock: one writer per image on this host, from the first look to the last fsync.

All locks are bytes of one file, taken as open-file-description locks (fcntl(2), Linux 3.15): any number of images costs
one descriptor, a crash leaves nothing stale, and a program that inherits the descriptor keeps them while it writes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import tempfile
import time
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors

_F_OFD_SETLK = 37
_FLOCK = "hhqqi4x"
_POLL_SECONDS = 0.02


def lock_directory() -> str:
    """Where the lock file lives: for root C(/run/platter.qemu), for others the user's run-time directory.

    Not C(/run/lock), where on Debian anyone can make a directory of that name.
    """
    if os.geteuid() == 0:
        parent = next((path for path in ("/run", "/var/run") if os.path.isdir(path)), None)
        return os.path.join(parent or tempfile.gettempdir(), "platter.qemu")
    parent = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return os.path.join(parent, "platter.qemu-%d" % os.geteuid())


class ImageLocks:
    """A context that holds locks: C(exclusive) for paths that may change, C(shared) for bases that must not change."""

    def __init__(self, exclusive: t.Iterable[str], shared: t.Iterable[str] = (), timeout: float = 30.0) -> None:
        kinds = dict.fromkeys(shared, fcntl.F_RDLCK)
        kinds.update(dict.fromkeys(exclusive, fcntl.F_WRLCK))
        self._wanted = sorted((_offset(path), kind, path) for path, kind in kinds.items())
        self._timeout = timeout
        self.descriptor = -1

    def __enter__(self) -> ImageLocks:
        self.descriptor = _open_lock_file()
        deadline = time.monotonic() + self._timeout
        try:
            # in the order of their offsets, so that two runs never wait for each other
            for offset, kind, path in self._wanted:
                self._acquire(offset, kind, path, deadline)
        except BaseException:
            os.close(self.descriptor)
            raise
        return self

    def __exit__(self, *_unused: t.Any) -> None:
        os.close(self.descriptor)

    def _acquire(self, offset: int, kind: int, path: str, deadline: float) -> None:
        while not _try_lock(self.descriptor, offset, kind):
            if time.monotonic() >= deadline:
                raise errors.RefusedError(
                    "a change",
                    path,
                    "another run of this collection has been working on it for %g s" % self._timeout,
                    reason="lock_timeout",
                    way_out="Wait for that run, or raise lock_timeout.",
                    evidence={"lock_timeout": self._timeout},
                    joined="of",
                )
            time.sleep(_POLL_SECONDS)


def _offset(path: str) -> int:
    return int.from_bytes(hashlib.sha256(os.fsencode(path)).digest()[:7], "big")


def _open_lock_file() -> int:
    directory = lock_directory()
    os.makedirs(directory, mode=0o700, exist_ok=True)
    if os.lstat(directory).st_uid != os.geteuid():
        raise errors.RefusedError(
            "locks",
            directory,
            "the directory belongs to another user",
            reason="unsafe_directory",
            way_out="Remove it, or set XDG_RUNTIME_DIR.",
            joined="in",
        )
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(os.path.join(directory, "images.lock"), flags, 0o600)


def _try_lock(descriptor: int, offset: int, kind: int) -> bool:
    try:
        fcntl.fcntl(descriptor, _F_OFD_SETLK, struct.pack(_FLOCK, kind, os.SEEK_SET, offset, 1, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True
