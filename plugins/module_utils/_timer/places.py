# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Where timers lie on a host: what they are told and made of, and what their last run did."""

from __future__ import annotations

import contextlib
import os
import shutil

#: there again at the next boot
_TOP = "/var/lib/platter/snapshots"
#: by which systemd knows when it started a persistent timer last (systemd.timer(5))
_STAMP = "/var/lib/systemd/timers/stamp-%s"


def directory(name: str) -> str:
    """Of one timer. Only root has anything there."""
    return os.path.join(_TOP, name)


def settings_file(name: str) -> str:
    """What its program is told."""
    return os.path.join(directory(name), "snapshots.json")


def program_file(name: str) -> str:
    """What it runs."""
    return os.path.join(directory(name), "snapshots.pyz")


def status_beside(settings: str) -> str:
    """What the last run did, beside the settings that it was told."""
    return os.path.join(os.path.dirname(settings), "status.json")


def remove_parts(status: str) -> None:
    """What killed runs had written of theirs. For whoever has the lock on the timer."""
    directory, start = os.path.dirname(status), os.path.basename(status) + "."
    for name in os.listdir(directory):
        if name.startswith(start):
            os.unlink(os.path.join(directory, name))


def remove(name: str, timer: str) -> None:
    """All of a timer, and what is known of its runs. C(timer): its unit."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_STAMP % timer)
    shutil.rmtree(directory(name), ignore_errors=True)
