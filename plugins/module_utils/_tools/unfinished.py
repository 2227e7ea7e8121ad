# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Remembers over kills and power cuts that a block device is being filled: it has no second name to be built under, and
half of a raw disk is a raw disk.

Kept by what the device is, never by a name alone, as C(/dev/sdb) may be another disk after the next start.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._tools import files

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def state_directory() -> str:
    """Where notes outlive a restart: for root C(/var/lib/platter.qemu), for others the user's directory of states."""
    if os.geteuid() == 0:
        return "/var/lib/platter.qemu"
    parent = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(parent, "platter.qemu")


def note_of(device: str) -> str:
    """The path of the note about the block device at C(device), which is there as long as it is being filled.

    The kernel's name of the device, for who looks there, only where it is a part of what tells that device from others.
    """
    identity = _identity(device)
    tag = hashlib.sha256(identity.encode()).hexdigest()[:32]
    name = os.path.basename(_sysfs(device))
    return os.path.join(state_directory(), "-".join(["filling", *([name] if name in identity.split() else []), tag]))


def is_unfinished(device: str) -> bool:
    """Whether a run of ours began to fill the device and did not end."""
    return os.path.lexists(note_of(device))


@contextlib.contextmanager
def filling(device: str) -> t.Iterator[None]:
    """The device counts as unfinished from before the block runs until it ends well, and stays so if it does not."""
    note = note_of(device)
    try:
        _write(note, _identity(device) + "\n")
    except OSError as exc:
        raise errors.EngineError("%s cannot be written: %s" % (note, exc.strerror)) from exc
    yield
    os.unlink(note)
    files.fsync_path(os.path.dirname(note))


def _write(note: str, text: str) -> None:
    directory = os.path.dirname(note)
    if not os.path.isdir(directory):
        os.makedirs(directory, mode=0o700)
        files.fsync_path(os.path.dirname(directory))
    descriptor = os.open(note, _FLAGS, 0o600)
    try:
        os.write(descriptor, text.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    files.fsync_path(directory)


# --- which device it is


def _sysfs(device: str) -> str:
    number = os.stat(device).st_rdev
    return os.path.realpath("/sys/dev/block/%d:%d" % (os.major(number), os.minor(number)))


def _identity(device: str) -> str:
    """The UUID of a mapped device; the file of a loop device; else size, place on the disk and what the disk says that it
    is, by which that of a partition is known too; without one of these what holds until the next start, with the name.
    """
    sysfs = _sysfs(device)
    uuid = _text(sysfs + "/dm/uuid")
    if uuid:
        return "dm %s" % uuid
    file = _text(sysfs + "/loop/backing_file")
    if file and os.path.exists(file):
        facts = os.stat(file)
        return "loop %d:%d" % (facts.st_dev, facts.st_ino)
    disk = os.path.dirname(sysfs) if os.path.exists(sysfs + "/partition") else sysfs
    place, serial = [_text(sysfs + "/size"), _text(sysfs + "/start")], _serial(disk)
    return " ".join([*place, serial] if serial else [os.path.basename(sysfs), *place, _this_start(disk)])


def _serial(disk: str) -> str:
    names = ("wwid", "device/wwid", "serial", "device/serial")
    return next((text for text in (_text(os.path.join(disk, name)) for name in names) if text), "")


def _this_start(disk: str) -> str:
    """C(diskseq), since Linux 5.15, counts what has been attached since the start."""
    return "%s %s" % (_text("/proc/sys/kernel/random/boot_id"), _text(disk + "/diskseq"))


def _text(path: str) -> str:
    try:
        with open(path, "rb") as attribute:
            return os.fsdecode(attribute.read().strip())
    except OSError:
        return ""
