# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Where the links to the devices of this host lie, and how they are made."""

from __future__ import annotations

import contextlib
import os

#: goes with the host, as the devices do
DIRECTORY = "/dev/platter"


def link_of(name: str) -> str:
    """The link to the device of that name."""
    return "%s/%s" % (DIRECTORY, name)


def led_to(name: str) -> str:
    """Where the link of that name leads; empty where there is none."""
    try:
        return os.readlink(link_of(name))
    except OSError:
        return ""


def lead(name: str, device: str) -> None:
    """Have the link lead to the device, in one step."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(DIRECTORY, 0o755)
    built = "%s/.%s.%d" % (DIRECTORY, name, os.getpid())
    with contextlib.suppress(FileNotFoundError):
        os.unlink(built)
    os.symlink(device, built)
    os.rename(built, link_of(name))


def remove(name: str) -> None:
    """Nothing is to be found by that name any more."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(link_of(name))
    with contextlib.suppress(OSError):  # others are there
        os.rmdir(DIRECTORY)
