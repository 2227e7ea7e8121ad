# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The files that make up one image: a split VMDK is a descriptor and its extents."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header


def member_paths(path: str, header: t.Optional[Header]) -> t.List[str]:
    """C(path) first, then every extent that lies in the same directory under a plain name.

    An extent elsewhere is a reference to a foreign file, not a member.
    """
    directory = os.path.dirname(path)
    names = [extent.filename for extent in header.extents] if header else []
    members = [os.path.join(directory, name) for name in names if name and "/" not in name]
    return [path] + [member for member in members if member != path]


def is_split(subformat: t.Any) -> bool:
    """Whether VMDK images of this subformat are several files."""
    return subformat in ("monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat")


def squatters(path: str, header: t.Optional[Header]) -> t.Tuple[str, ...]:
    """Files that have the names QEMU gives to extents (C(x-s001.vmdk), C(x-flat.vmdk)) but are no members."""
    directory, name = os.path.split(path)
    stem, ending = os.path.splitext(name)
    pattern = re.compile(re.escape(stem) + r"-(flat|[sf]\d{3})" + re.escape(ending) + r"\Z")
    try:
        found = [os.path.join(directory, other) for other in os.listdir(directory) if pattern.match(other)]
    except OSError:
        return ()
    return tuple(sorted(set(found) - set(member_paths(path, header))))
