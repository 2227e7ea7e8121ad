# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What lies in the directories that a disk has files in. Read-only."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._tools import build_directory


def entries_of(directory: str) -> t.List[os.DirEntry[str]]:
    """By their names; none where it is no directory. Raises EngineError for one that is closed to us."""
    try:
        with os.scandir(directory) as entries:
            return sorted(entries, key=lambda each: each.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        said = "%s cannot be searched for images: %s" % (directory, exc.strerror)
        raise errors.EngineError(said, path=directory) from exc


def files_in(directories: t.Iterable[str], needed: t.Collection[str]) -> t.Iterator[str]:
    """The files in these directories, what is being built left out.

    One that is not C(needed) may be closed to us, as that of a template: C(clones) looks once more before anything is
    changed that is in it.
    """
    for directory in sorted(directories):
        try:
            entries = entries_of(directory)
        except errors.EngineError:
            if directory in needed:
                raise
            continue
        for each in entries:
            if not each.name.startswith(build_directory.TEMP_PREFIX) and each.is_file(follow_symlinks=False):
                yield each.path
