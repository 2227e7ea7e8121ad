# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The directory of an image: whether others can put something else there. Read-only."""

from __future__ import annotations

import os

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import image


def refuse_unsafe_directory(spec: ImageSpec) -> None:
    """The directory must exist (unless the image is to be absent), and others must not be able to replace files in
    it.
    """
    path = spec.path
    directory = os.path.dirname(path)
    try:
        mode = os.stat(directory).st_mode
    except FileNotFoundError:
        if spec.state == "absent":
            return
        raise errors.RefusedError(
            "this task",
            path,
            "its directory does not exist",
            reason="directory_missing",
            way_out="Make the directory first (ansible.builtin.file). In check mode an earlier task has not made it.",
        ) from None
    if mode & 0o002 and not mode & 0o1000:
        raise errors.RefusedError(
            "this task",
            path,
            "anyone can replace files in its directory (mode %04o)" % (mode & 0o7777),
            reason="unsafe_directory",
            way_out="Take write permission from others, or set the sticky bit.",
            evidence={"mode": "%04o" % (mode & 0o7777)},
        )


def refuse_foreign_owner(spec: ImageSpec, seen: image.Seen) -> None:
    """Where anyone can make files, their owner can put another in the place of one that was looked at."""
    if seen.facts.kind == "absent" or not os.stat(os.path.dirname(spec.path)).st_mode & 0o002:
        return
    if seen.facts.owner not in (0, os.geteuid()):
        raise errors.RefusedError(
            "this task",
            spec.path,
            "it belongs to user %d, who can replace it at any time in this directory" % seen.facts.owner,
            reason="unsafe_directory",
            way_out="Keep images in a directory of their own.",
            evidence={"owner": seen.facts.owner},
        )
