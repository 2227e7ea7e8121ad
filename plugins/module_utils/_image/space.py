# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Whether there is room for what is to be made. Read-only."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, size
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._image import actions
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import file_system

#: bytes left free on a file system, so that a prediction that is a little short does not fill it
SPACE_RESERVE = 16 << 20


def guard_space(items: t.Sequence[Item]) -> None:
    """Refuse new files that take their bytes at once, where those of a file system do not fit in together."""
    left: t.Dict[int, int] = {}
    for item in items:
        needed = _taken_at_once(item) or _downloaded(item) or _copied(item)
        directory = os.path.dirname(file_system.build_place(item.spec.path)) if needed else ""
        if not needed or item.refusal or not os.path.isdir(directory):
            continue
        which = os.stat(directory).st_dev
        have = left.setdefault(which, file_system.free_bytes(directory))
        if needed + SPACE_RESERVE > have:
            item.refusal = no_space(item.spec, needed, have, directory)
        else:
            left[which] = have - needed


def _taken_at_once(item: Item) -> int:
    action = item.plan[0] if item.plan else None
    if not isinstance(action, actions.CreateImage) or item.spec.place is not None or item.reading.kind == "block":
        return 0
    return (action.virtual_size or 0) if dict(action.options).get("preallocation") in ("falloc", "full") else 0


def _copied(item: Item) -> int:
    """The bytes of an image that is repaired in a copy; where the file system shares them it takes less."""
    repaired = any(isinstance(action, actions.RepairImage) and action.replaces_file for action in item.plan)
    return os.lstat(item.spec.path).st_blocks * 512 if repaired and item.reading.kind == "file" else 0


#: their unused parts are zeros in the file, which a download leaves out
_HOLLOW = ("raw", "vpc")
_PACKED = (".gz", ".bz2", ".xz", ".zst")


def _downloaded(item: Item) -> int:
    """The bytes that a download certainly takes beside the image: those of a file that is packed, or dense by itself."""
    action = item.plan[0] if item.plan else None
    if not isinstance(action, actions.ImportImage) or item.spec.place is not None or not action.source.url:
        return 0
    packed = action.source.compression not in ("auto", "none") or action.source.text.lower().endswith(_PACKED)
    return (item.reading.source.length or 0) if packed or action.source.format not in _HOLLOW else 0


def require_space(spec: ImageSpec, needed: int) -> None:
    """Refuse what may need more bytes than there are where the image is to be."""
    directory = os.path.dirname(file_system.build_place(spec.path))
    have = file_system.free_bytes(directory)
    if needed + SPACE_RESERVE > have:
        raise no_space(spec, needed, have, directory)


def no_space(spec: ImageSpec, needed: int, have: int, directory: str = "") -> errors.RefusedError:
    """The refusal of an image that needs C(needed) bytes where there are C(have): in C(directory), or on its device."""
    elsewhere = directory not in ("", os.path.dirname(spec.path))
    return errors.RefusedError(
        "a new image",
        spec.path,
        "it may need %s%s, and there are %s"
        % (size.human(needed), " in %s" % directory if elsewhere else "", size.human(have)),
        reason="would_exceed_space",
        way_out="Make room there, or import a file of this host that needs no copy."
        if elsewhere
        else "Make room, or put the image elsewhere.",
        evidence={"needed_bytes": needed, "free_bytes": have},
        joined="at",
    )
