# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Whether a VM may write to an image: what a snapshot has made the backing file of another image since the VM was defined, or
what the host itself has. QEMU would, as it asks for locks of other QEMUs only. Read-only.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import stat
import struct
import time
import typing as t

#: of qcow and qcow2: magic and version; where the name of the backing file is, and how long
_HEADER, _MAGIC = ">4sIQI", b"QFI\xfb"
_LONGEST = 1 << 16
_TEMP_PREFIX = ".platter-tmp."
#: in which another program that asks the same, or looks for a file system, has closed the device
_GLANCE_SECONDS = 2.0


def is_claimed(image: str) -> bool:
    """Whether the host has the block device for itself: mounted, swapped on, or below a volume or an array."""
    end = time.monotonic() + _GLANCE_SECONDS
    while _is_claimed_now(image):
        if time.monotonic() > end:
            return True
        time.sleep(0.05)
    return False


def _is_claimed_now(image: str) -> bool:
    try:
        if not stat.S_ISBLK(os.stat(image).st_mode):
            return False
        os.close(os.open(image, os.O_RDONLY | os.O_NONBLOCK | os.O_EXCL))
    except OSError as exc:  # what else there is, QEMU says
        return exc.errno == errno.EBUSY
    return False


def overlays_of(image: str) -> t.List[str]:
    """The images that name C(image) as their backing file: in its directory, in that of a link to it, and where its own
    record says.
    """
    which = _identity(image)
    if which is None:
        return []
    directories = dict.fromkeys((os.path.dirname(os.path.realpath(image)), os.path.dirname(image)))
    paths = [path for directory in directories for path in _files_in(directory)] + _recorded(image)
    others = (path for path in dict.fromkeys(paths) if _identity(path) != which)
    return [path for path in others if any(_identity(each) == which for each in _named(path))]


def _identity(path: str) -> t.Optional[t.Tuple[int, int]]:
    """None of what is neither a file nor a block device: it is no backing file."""
    try:
        seen = os.stat(path)
    except (OSError, ValueError):
        return None
    if stat.S_ISBLK(seen.st_mode):
        return -1, seen.st_rdev
    return (seen.st_dev, seen.st_ino) if stat.S_ISREG(seen.st_mode) else None


def _files_in(directory: str) -> t.List[str]:
    return [os.path.join(directory, name) for name in sorted(os.listdir(directory)) if name[:13] != _TEMP_PREFIX]


@functools.lru_cache(maxsize=None)
def _named(path: str) -> t.List[str]:
    """What the header of the image at C(path) can mean by its backing file."""
    if not os.path.isfile(path):
        return []
    try:
        with open(path, "rb", buffering=0) as stream:
            head = stream.read(struct.calcsize(_HEADER))
            magic, _version, at, length = struct.unpack(_HEADER, head) if len(head) == 20 else (b"", 0, 0, 0)
            if magic != _MAGIC or not at or length > _LONGEST:
                return []
            stream.seek(at)
            name = os.fsdecode(stream.read(length))
    except (OSError, OverflowError):
        return []
    return [os.path.join(os.path.dirname(path), each) for each in _files(name)]


def _files(name: str) -> t.List[str]:
    """Names in the forms that QEMU and libvirt write for a file."""
    if name.startswith("json:"):
        try:
            return _file_names(json.loads(name[5:]))
        except (ValueError, RecursionError):
            return []
    return [name[5:] if name.startswith("file:") else name]


def _file_names(tree: t.Any) -> t.List[str]:
    if isinstance(tree, list):
        return [found for each in tree for found in _file_names(each)]
    if not isinstance(tree, dict):
        return []
    own = [each for key, each in tree.items() if key.rpartition(".")[2] == "filename" and isinstance(each, str)]
    return own + [found for each in tree.values() for found in _file_names(each)]


def _recorded(image: str) -> t.List[str]:
    """Overlays in other directories, by the record of the image (C(_tools/records.py))."""
    beside = os.path.join(os.path.dirname(image), "." + os.path.basename(image) + ".platter.json")
    try:
        text = os.getxattr(image, "user.platter.qemu")
    except OSError:
        try:
            with open(beside, "rb") as stream:
                text = stream.read(_LONGEST)
        except OSError:
            return []
    try:
        found = json.loads(text.decode("utf-8", "replace"))["snapshot"]["overlays"]
        return [each for each in found if isinstance(each, str) and os.path.isabs(each)]
    except (ValueError, LookupError, TypeError, RecursionError):
        return []
