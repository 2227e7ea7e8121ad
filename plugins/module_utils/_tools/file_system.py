# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What the file system of a directory can do, and what room it has."""

from __future__ import annotations

import os
import stat

#: kept over a restart and large (file-hierarchy(7)); others can make files there, but not move ours
_ELSEWHERE = "/var/tmp"


def direct_io_works(directory: str) -> bool:
    """Whether files in C(directory) can be opened with O_DIRECT (not on every file system; QEMU fails where not)."""
    try:
        descriptor = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    os.close(descriptor)
    return True


def free_bytes(directory: str) -> int:
    """Bytes that this user can still write in the file system of C(directory)."""
    facts = os.statvfs(directory)
    return facts.f_bavail * facts.f_frsize if facts.f_blocks else 1 << 62  # a size of 0: it does not say


def build_place(path: str) -> str:
    """The path beside which files for the image at C(path) are made: its own; of a device another one, as C(/dev) is
    memory, and nothing there is renamed to the device anyway; and of what is elsewhere, such as an NBD export.
    """
    if not path.startswith("/"):
        return os.path.join(_ELSEWHERE, path.replace("/", "%2F"))
    if path.startswith("/dev/") and os.path.exists(path) and stat.S_ISBLK(os.stat(path).st_mode):
        return os.path.join(_ELSEWHERE, path.strip("/").replace("/", "%2F"))
    return path
