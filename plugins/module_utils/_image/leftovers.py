# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Member files that a killed run has left behind, and how a run prepares to be killed."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._image.held_place import held_place
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import image
from ansible_collections.platter.qemu.plugins.module_utils._inspect.members import member_paths
from ansible_collections.platter.qemu.plugins.module_utils._tools import (
    build_directory,
    file_system,
    pinned,
    records,
)


def remove_builds(spec: ImageSpec, stale: t.Sequence[str]) -> t.List[str]:
    """Remove the build directories C(stale) of killed runs, and what they have left beside them; returns which.

    Each is opened once: where others can rename it, another may have taken its place since it was found to be ours.
    """
    removed = []
    with held_place(spec) as held:
        for name in stale:
            build = os.path.join(os.path.dirname(file_system.build_place(held.path)), os.path.basename(name))
            with pinned.PinnedDirectory(build) as directory:
                if build_directory.is_build(directory.seen, os.path.dirname(file_system.build_place(spec.path))):
                    forget_members(held.path, directory.path)
                    directory.remove()
                    removed.append(name)
    return removed


def forget_members(path: str, build: str) -> None:
    """Members that a killed run had already put in place for an image at C(path) that never got its name.

    The descriptor in the build directory C(build) names them; what the present image has is kept.
    """
    kept = set(member_paths(path, image.look_at(path).header))
    for name in os.listdir(build):
        unfinished = os.path.join(build, name)
        # what a guest wrote into an unfinished raw disk is no descriptor of ours
        ours = not name.startswith(".spare-") and records.read_record(unfinished).get("format") == "vmdk"
        members = member_paths(unfinished, image.look_at(unfinished, "vmdk").header)[1:] if ours else []
        for member in members:
            placed = os.path.join(os.path.dirname(path), os.path.basename(member))
            if placed not in kept and os.path.exists(placed) and _is_ours(member, placed):
                os.unlink(placed)
    forget_old_members(path, build)


def _is_ours(member: str, placed: str) -> bool:
    """It was moved, or linked and not yet unlinked."""
    return not os.path.exists(member) or os.path.samefile(member, placed)


#: in a build directory: links to the members of the image that is being replaced
OLD_MEMBERS = ".spare-old-members"


def note_old_members(build: str, path: str, members: t.Sequence[str]) -> None:
    """Keep in the build directory which files go with the old image, for a run that ends before they are removed."""
    if not members:
        return
    noted = os.path.join(build, OLD_MEMBERS)
    os.mkdir(noted)
    for name in (path, *members):
        os.link(name, os.path.join(noted, os.path.basename(name)))


def forget_old_members(path: str, build: str) -> bool:
    """Remove what note_old_members noted, unless the image at C(path) is still the one that has them: the same inode.

    False when something could not be removed; the build directory must then stay for the next run.
    """
    noted = os.path.join(build, OLD_MEMBERS)
    names = [name for name in _names(noted) if name != os.path.basename(path)]
    old = os.path.join(noted, os.path.basename(path))  # the first to be noted, and so the last to be believed
    if not os.path.exists(old) or not os.path.exists(path) or os.path.samefile(path, old):
        return True
    kept = set(member_paths(path, image.look_at(path).header))
    removed = [_forget(os.path.join(os.path.dirname(path), name), kept, noted) for name in names]
    return all(removed)


def _names(directory: str) -> t.List[str]:
    return os.listdir(directory) if os.path.isdir(directory) else []


def _forget(member: str, kept: t.AbstractSet[str], noted: str) -> bool:
    try:
        if member not in kept and os.path.samefile(member, os.path.join(noted, os.path.basename(member))):
            os.unlink(member)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
