# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""The files of a directory that can be images."""

from __future__ import annotations

import fnmatch
import os
import stat
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._tools import build_directory

_RECORD = (".platter.json", ".platter.json.new")


def image_files(directory: str, recurse: bool, patterns: t.Sequence[str]) -> tuple[list[str], list[str]]:
    """(paths by name, warnings): files and block devices, also behind symbolic links, but nothing that is our own."""
    found: list[str] = []
    warnings: list[str] = []
    waiting = [os.path.abspath(directory)]
    while waiting:
        current = waiting.pop()
        try:
            with os.scandir(current) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as exc:
            warnings.append(f"{current} cannot be searched for images: {exc.strerror}")
            continue
        listed = [entry for entry in listed if not _is_ours(entry.name)]
        found += [entry.path for entry in listed if _fits(entry, patterns)]
        if recurse:
            waiting += [entry.path for entry in reversed(listed) if entry.is_dir(follow_symlinks=False)]
    return found, warnings


def _is_ours(name: str) -> bool:
    return name.startswith(build_directory.TEMP_PREFIX) or (name.startswith(".") and name.endswith(_RECORD))


def _fits(entry: os.DirEntry[str], patterns: t.Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in patterns) and _is_file(entry)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file() or stat.S_ISBLK(entry.stat().st_mode)
    except OSError:  # a symbolic link that leads nowhere
        return False
