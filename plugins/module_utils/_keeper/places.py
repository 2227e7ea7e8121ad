# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Where keepers lie on a host: what they are told and made of, and what they say of their arrays."""

from __future__ import annotations

import contextlib
import os
import shutil

#: there again at the next boot
_TOP = "/var/lib/platter/arrays"
_STATUS = "/run/platter.qemu/arrays"
#: as C(_tools/supervise.py) looks for it
DEFINITION = "export.json"


def directory(name: str) -> str:
    """Of the keeper of an array. Only root has anything there."""
    return os.path.join(_TOP, name)


def settings_file(name: str) -> str:
    """What it is told."""
    return os.path.join(directory(name), "keeper.json")


def program_file(name: str) -> str:
    """What it runs."""
    return os.path.join(directory(name), "keeper.pyz")


def supervisor_file(name: str) -> str:
    """What keeps it running where there is no systemd."""
    return os.path.join(directory(name), "supervise.py")


def status_file(name: str) -> str:
    """What it says of its array."""
    return os.path.join(_STATUS, name + ".json")


def write_status(name: str, text: str) -> None:
    """It goes with the host."""
    path = status_file(name)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    built = path + ".new"
    with open(built, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.rename(built, path)


def remove(name: str) -> None:
    """All of a keeper, and what it has said."""
    shutil.rmtree(directory(name), ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(status_file(name))
