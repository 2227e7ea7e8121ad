# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Whether other users can put something else in the place of a disk's files while they are worked on. Read-only.

Layers are locked, copied, linked and removed by their names, by QEMU's programs too: there is no descriptor to hold.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import actions, refuse
from ansible_collections.platter.qemu.plugins.module_utils._tools import walk


def guard_places(items: t.Sequence[Item]) -> None:
    """Refuse plans that would work by name where that name is another user's."""
    for item in items:
        named = _named(item)
        for directory in sorted({os.path.dirname(path) for path in named}):
            mover = walk.unsafe_mover(os.path.realpath(directory))
            if mover and not item.refusal:
                item.refusal = _refusal(item, mover)
        for path in sorted(named):
            if not item.refusal:
                item.refusal = _refusal_of_owner(item, path)


def _named(item: Item) -> t.Set[str]:
    """Every file that is opened, made or removed by its name. What a running QEMU does to its own image is none."""
    if item.reading.live is not None and all(isinstance(action, actions.BY_QEMU) for action in item.plan):
        return set()
    named = {item.spec.image, item.before.active}
    for layer in item.reading.layers.values():
        named.update(path for path in (layer.path, layer.base) if path)
    for action in item.plan:
        named.update(path for path in (getattr(action, "overlay", None), *action.writes) if path)
    return named


def _refusal(item: Item, mover: walk.Mover) -> errors.RefusedError:
    whose = "belongs to user %d" % mover.owner if mover.owned else "is open to all (mode %04o)" % mover.mode
    return refuse.refused(
        item.spec,
        "unsafe_directory",
        "%s %s, who can put another file in the place of one that is worked on" % (mover.directory, whose),
        "Run the task as that user (become_user), or keep the image in a directory of root's."
        if mover.owned
        else "Take write permission from others, or set the sticky bit.",
        {"directory": mover.directory, "owner": mover.owner, "mode": "%04o" % mover.mode},
    )


def _refusal_of_owner(item: Item, path: str) -> t.Optional[errors.RefusedError]:
    """In a directory such as /tmp, the owner of a file can rename it, and nobody else."""
    directory = os.path.realpath(os.path.dirname(path))
    try:
        owner, mode = os.lstat(path).st_uid, os.stat(directory).st_mode
    except OSError:
        return None
    if not mode & 0o002 or owner in (0, os.geteuid()):
        return None
    return refuse.refused(
        item.spec,
        "unsafe_directory",
        "%s belongs to user %d, who can replace it at any time in this directory" % (path, owner),
        "Keep images in a directory of their own.",
        {"directory": directory, "owner": owner},
    )
