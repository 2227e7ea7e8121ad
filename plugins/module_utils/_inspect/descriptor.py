# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Whose extent a file is. The descriptor of a split VMDK names its extents; they do not name it. Only read when a file
cannot be read as the image that a task says it is, or is said to be raw and has the name of an extent.
"""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, header
from ansible_collections.platter.qemu.plugins.module_utils._inspect import image, members

#: C(x-s001.vmdk), C(x-flat.vmdk), and our own C(x-1a2b3c4d-s001.vmdk)
_EXTENT_NAME = re.compile(r"(?P<stem>.+?)(-[0-9a-f]{8})?-(flat|[sf]\d{3})(?P<ending>\.[^.]+)\Z")
_FLAT = ("FLAT", "VMFS")
#: how many files of a directory are looked at
_MOST_CANDIDATES = 200


def split_extent(path: str, seen: image.Seen) -> t.Optional[header.SplitExtent]:
    """What C(path) is a part of, if its bytes or its name say that it is an extent of a split VMDK."""
    named = _EXTENT_NAME.match(os.path.basename(path))
    raw = seen.header is not None and seen.header.format == "raw"  # a flat extent: only who names it says so
    unknown = (seen.header is None or raw) and not seen.detected
    if seen.reason != "vmdk_extent" and not (named and unknown):
        return None
    descriptor = _descriptor_of(path, named.group("stem") + named.group("ending") if named else "")
    if descriptor:
        return header.SplitExtent(
            "it is an extent of the split VMDK %s" % descriptor, "Name the descriptor.", descriptor
        )
    if raw:
        return None
    how = "it is" if seen.reason == "vmdk_extent" else "by its name it is"
    sentence = "%s an extent of a split VMDK, and no descriptor beside it names it" % how
    return header.SplitExtent(sentence, "Bring the descriptor (a small text file) beside its extents, and name it.")


def is_whole_disk(descriptor: str) -> bool:
    """Whether the image at C(descriptor) is one flat extent, which then holds the disk byte for byte."""
    found = image.look_at(descriptor, "vmdk").header
    extents = found.extents if found else ()
    return len(extents) == 1 and extents[0].kind in _FLAT and not extents[0].offset


def _descriptor_of(path: str, guess: str) -> t.Optional[str]:
    directory, name = os.path.split(path)
    try:
        names = sorted(set(os.listdir(directory)) - {name}, key=lambda other: (other != guess, other))
    except OSError:
        return None
    ending = os.path.splitext(name)[1]
    candidates = [os.path.join(directory, other) for other in names if other.endswith(ending)]
    return next((each for each in candidates[:_MOST_CANDIDATES] if path in _extents(each)), None)


def _extents(path: str) -> t.List[str]:
    try:
        return members.extent_paths(path, image.look_at(path, "vmdk").header)[1:]
    except (errors.EngineError, OSError):
        return []
