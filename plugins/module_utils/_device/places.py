# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Where the links to the devices of this host lie, and what their servers need."""

from __future__ import annotations

import contextlib
import os
import shutil

from ansible_collections.platter.qemu.plugins.module_utils._device import definition
from ansible_collections.platter.qemu.plugins.module_utils._tools import loop_device

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


def directory_of(name: str) -> str:
    """Of one server. Only root has anything there (C(_tools/locks.py) sees to it)."""
    return os.path.join(loop_device.served_directory(), name)


def make_directory(name: str, psk_file: str) -> None:
    """With the file that the server puts the disk over, and the keys that it proves itself by."""
    directory = directory_of(name)
    os.makedirs(directory, mode=0o700)
    os.close(os.open(definition.disk_file(directory), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    if psk_file:
        os.symlink(psk_file, os.path.join(directory, definition.PSK_NAME))


def remove_directory(name: str) -> None:
    """When the server has ended."""
    directory = directory_of(name)
    if os.path.isdir(directory):
        shutil.rmtree(directory)
