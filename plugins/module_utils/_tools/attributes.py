# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Owner, mode and extended attributes of a file, given to another."""

from __future__ import annotations

import os
import stat
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors


def copy_attributes(source: str, target: str, identity: t.Optional[t.Tuple[int, int]] = None) -> None:
    """Owner, mode and extended attributes (SELinux context too), but not what we remember of the file.

    C(identity): (device, inode) that C(source) must still have; another user may have put a link there, even one to a
    program that runs as its owner (setuid), which no image is ever made.
    """
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_NOFOLLOW if identity else 0))
    except OSError as exc:
        if identity:
            raise _other_file(source) from exc
        raise
    try:
        facts = os.fstat(descriptor)
        if identity and (facts.st_dev, facts.st_ino) != identity:
            raise _other_file(source)
        os.chown(target, facts.st_uid, facts.st_gid)
        os.chmod(target, stat.S_IMODE(facts.st_mode) & ~(stat.S_ISUID | stat.S_ISGID))
        for name in os.listxattr(descriptor):
            if name != "user.platter.qemu":
                os.setxattr(target, name, os.getxattr(descriptor, name))
    finally:
        os.close(descriptor)


def _other_file(path: str) -> errors.RefusedError:
    return errors.RefusedError(
        "a new image",
        path,
        "something else has appeared there meanwhile",
        reason="changed_meanwhile",
        way_out="Run the task again.",
        joined="at",
    )
