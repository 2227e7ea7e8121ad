# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Whether all is there that an image has in other files: QEMU reads as zeros what a data file or an extent lacks. Read-only."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._formats import info
from ansible_collections.platter.qemu.plugins.module_utils._tools import files

#: (reason, sentence)
Lack = t.Tuple[str, str]


def lacking(path: str, header: t.Optional[Header]) -> t.Optional[Lack]:
    """The first of the files with the content of the image at C(path) that is missing, or cut off; None where all are whole."""
    if header is None or not any(kind in ("data_file", "extent") for kind, _target in header.references):
        return None
    try:
        return next((found for found in _lacks(path, header) if found), None)
    except (errors.EngineError, OSError):  # one that cannot be read is told by what opens it
        return None


def _lacks(path: str, header: Header) -> t.Iterator[t.Optional[Lack]]:
    from ansible_collections.platter.qemu.plugins.module_utils._formats import vmdk_descriptor

    if header.data_file and header.data_file.startswith("/"):
        yield _lack(path, "data file", header.data_file, _data_end(path, header))
    for extent in header.extents:
        if extent.filename and vmdk_descriptor.is_used(extent) and not info.has_protocol(extent.filename):
            end = extent.offset + extent.virtual_size if vmdk_descriptor.is_flat(extent) else 0
            yield _lack(path, "extent", os.path.join(os.path.dirname(path), extent.filename), end)


def _lack(path: str, kind: str, file: str, needed: int) -> t.Optional[Lack]:
    facts = files.file_facts(file)
    if facts.kind == "absent":
        return "member_missing", "%s has a part of its content in its %s %s, which does not exist" % (path, kind, file)
    if facts.kind == "file" and needed > facts.length:
        fact = "the %s %s of %s has %d bytes, and by the tables of the image it needs %d"
        return "image_damaged", fact % (kind, file, path, facts.length, needed)
    return None


def _data_end(path: str, header: Header) -> int:
    """QEMU makes it as long as the disk (since 5.0), so that the tables are hardly ever read for it."""
    facts = files.file_facts(t.cast(str, header.data_file))
    if facts.kind != "file" or facts.length >= header.virtual_size:
        return 0
    from ansible_collections.platter.qemu.plugins.module_utils._formats import qcow2_data

    with files.FileReader(path, budget=_TABLES) as reader:
        return min(qcow2_data.data_end(reader, bool(header.options.get("extended_l2"))), header.virtual_size)


#: bytes of tables that are read to find where the data ends: those of 2 TiB with clusters of 64 KiB
_TABLES = 256 << 20
