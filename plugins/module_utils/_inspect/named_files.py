# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The files that an image names: what opening it would open."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._formats import registry
from ansible_collections.platter.qemu.plugins.module_utils._inspect import chain, image, members
from ansible_collections.platter.qemu.plugins.module_utils._tools import files


def recorded_base(path: str) -> t.List[str]:
    """Every file that the image at C(path) is built on: its backing file, its data file, its extents.

    Where the bytes claim to be several formats (a guest can see to that), what any of them names counts; also in a file
    that is remembered to be raw, as C(qemu-img create) over it leaves it its record.
    """
    seen = image.look_at(path)
    headers = [seen.header] if seen.header else []
    if seen.detected and not any(header.format != "raw" for header in headers):
        headers += _as_bytes_say(path, seen.detected)
    return [name for header in headers for name in named_by(path, header)]


def _as_bytes_say(path: str, formats: t.Iterable[str]) -> t.Iterator[Header]:
    with files.FileReader(path) as reader:
        for name in formats:
            with contextlib.suppress(errors.HeaderError):
                yield registry.read_names(name, reader)


def named_by(path: str, header: Header) -> t.Iterator[str]:
    """The files that the image at C(path) can name, by its header: backing file, data file, extents."""
    for name in (header.backing_file, header.data_file):
        yield from chain.possible_files(path, name) if name else ()
    yield from members.extent_paths(path, header)[1:]


def files_of_chain(path: str, format_name: str) -> t.List[str]:
    """Every file that QEMU opens with the image at C(path), itself first: its chain, with extents and data files."""
    found = [path]
    for link in chain.walk_chain(path, format_name, image.chain_header).links:
        if link.header:
            found += [link.path, *named_by(link.path, link.header)]
    return list(dict.fromkeys(found))
