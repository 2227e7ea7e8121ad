# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The dated names that the files of before get."""

from __future__ import annotations

import os
import re
import time
import typing as t


def new_name(path: str) -> str:
    """The name for a backup of the image at C(path) that is made now."""
    return "%s.%d.%s~" % (path, os.getpid(), time.strftime("%Y-%m-%d@%H:%M:%S"))


_SUFFIX = r"\.\d+\.\d{4}-\d\d-\d\d@\d\d:\d\d:\d\d~"


def is_backup(path: str) -> bool:
    """Whether the file has the name of a backup, of whatever image."""
    return re.search(_SUFFIX + r"\Z", path) is not None


def names_of(path: str, identity: t.Tuple[int, int]) -> t.List[str]:
    """The backups of the image at C(path) that are the file C(identity): a run was killed before that was replaced."""
    directory, base = os.path.split(path)
    ours = re.compile(re.escape(base) + _SUFFIX)
    try:
        names = [name for name in os.listdir(directory) if ours.fullmatch(name)]
    except OSError:
        return []
    return sorted(name for name in (os.path.join(directory, each) for each in names) if _is_file(name, identity))


def _is_file(path: str, identity: t.Tuple[int, int]) -> bool:
    try:
        seen = os.lstat(path)
    except OSError:
        return False
    return (seen.st_dev, seen.st_ino) == identity
