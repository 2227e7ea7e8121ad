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

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._tools import files


def member_paths(path: str, header: t.Optional[Header]) -> t.List[str]:
    """C(path) first, then every extent that is a member: a plain file beside it whose name is made from its own.

    A descriptor can name any file. What is not called as QEMU and VMware call members (C(x-s001.vmdk) of C(x.vmdk)) is
    a reference to somebody else's file, and is never removed or changed with the image.
    """
    if header is None or not header.extents:
        return [path]
    directory = os.path.dirname(path)
    names = [extent.filename for extent in header.extents]
    own = _member_pattern(path, generation=True)
    members = [os.path.join(directory, name) for name in dict.fromkeys(names) if own.match(name)]
    return [path] + [member for member in members if member != path and _may_be_file(member)]


def _may_be_file(path: str) -> bool:
    return not os.path.lexists(path) or (os.path.isfile(path) and not os.path.islink(path))


def extent_paths(path: str, header: t.Optional[Header]) -> t.List[str]:
    """C(path) first, then every file that its descriptor names: what QEMU opens with it, members or not."""
    directory = os.path.dirname(path)
    names = [extent.filename for extent in header.extents if extent.filename] if header else []
    return list(dict.fromkeys([path] + [os.path.join(directory, name) for name in names]))


def nested_descriptor(path: str, header: t.Optional[Header]) -> str:
    """An extent that is itself a descriptor, and leads QEMU on to any file; else empty."""
    if header is None or header.format != "vmdk" or not header.extents:
        return ""
    from ansible_collections.platter.qemu.plugins.module_utils._formats import vmdk

    directory = os.path.dirname(path)
    extents = (os.path.join(directory, name) for name in vmdk.sparse_members(header))
    return next((extent for extent in extents if os.path.isfile(extent) and _is_descriptor(extent, vmdk)), "")


def _is_descriptor(path: str, vmdk: t.Any) -> bool:
    try:
        with files.FileReader(path) as reader:
            return bool(vmdk.is_descriptor(reader))
    except errors.EngineError:  # QEMU cannot open it either
        return False


def foreign_extents(path: str, header: t.Optional[Header]) -> t.Tuple[str, ...]:
    """Files that a descriptor names and that are no members."""
    return tuple(sorted(set(extent_paths(path, header)) - set(member_paths(path, header))))


def _member_pattern(path: str, *, generation: bool) -> t.Pattern[str]:
    """C(generation): also names that we give to members beside those of the image that is replaced."""
    stem, ending = os.path.splitext(os.path.basename(path))
    between = r"(-[0-9a-f]{8})?" if generation else ""
    return re.compile(re.escape(stem) + between + r"-(flat|[sf]\d{3})" + re.escape(ending) + r"\Z")


def is_split(subformat: t.Any) -> bool:
    """Whether VMDK images of this subformat are several files."""
    return subformat in ("monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat")


def squatters(path: str, header: t.Optional[Header]) -> t.Tuple[str, ...]:
    """Files that have the names QEMU gives to extents (C(x-s001.vmdk), C(x-flat.vmdk)) but are no members."""
    directory, pattern = os.path.dirname(path), _member_pattern(path, generation=False)
    try:
        found = [os.path.join(directory, other) for other in os.listdir(directory) if pattern.match(other)]
    except OSError:
        return ()
    return tuple(sorted(set(found) - set(member_paths(path, header))))
