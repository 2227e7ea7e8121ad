# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The files that an image names: what opening it would open."""

from __future__ import annotations

import contextlib
import os
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
    return [name for header in _headers(path) for name in named_by(path, header)]


def recorded_backing(path: str) -> t.List[str]:
    """The same for its backing file alone."""
    named = (header.backing_file for header in _headers(path) if header.backing_file)
    return [each for name in named for each in chain.possible_files(path, name)]


def _headers(path: str) -> t.List[Header]:
    seen = image.look_at(path)
    headers = [seen.header] if seen.header else []
    if seen.detected and not any(header.format != "raw" for header in headers):
        headers += _as_bytes_say(path, seen.detected)
    return headers


def told_by(record: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    """The images that a file says, in its own record, are built on it, wherever they are. Anybody who owns the file could
    have written so: they are believed by their own headers only.
    """
    overlays = (record.get("snapshot") or {}).get("overlays")
    told = [*(overlays if isinstance(overlays, list) else ()), record.get("data_of") or ""]
    yield from (path for path in told if os.path.isabs(path) and os.path.exists(path))


def _as_bytes_say(path: str, formats: t.Iterable[str]) -> t.Iterator[Header]:
    with files.FileReader(path) as reader:
        for name in formats:
            with contextlib.suppress(errors.HeaderError):
                yield registry.read_names(name, reader)


def named_by(path: str, header: Header) -> t.Iterator[str]:
    """The files that the image at C(path) can name, by its header: backing file, data file, extents."""
    yield from chain.possible_files(path, header.backing_file) if header.backing_file else ()
    yield from content_of(path, header)


def content_of(path: str, header: Header) -> t.Iterator[str]:
    """The files beside it that hold content of the image at C(path): its data file, its extents."""
    yield from chain.possible_files(path, header.data_file) if header.data_file else ()
    yield from members.extent_paths(path, header)[1:]


def files_of_chain(path: str, format_name: str) -> t.List[str]:
    """Every file that QEMU opens with the image at C(path), itself first: its chain, with extents and data files."""
    return list(dict.fromkeys([path, *(each.path for each in opened_with(path, format_name))]))


class Opened(t.NamedTuple):
    """A file that is opened with an image. C(own): it holds content of the image itself (a data file, an extent)."""

    path: str
    own: bool


def opened_with(path: str, format_name: t.Optional[str], *, below: bool = True) -> t.Iterator[Opened]:
    """The files that QEMU opens with the image at C(path), of C(format_name) (None: it guesses), beside that one; with
    C(below) its chain too, as far as that can be followed.
    """
    links = chain.walk_chain(path, format_name, image.chain_header).links
    for number, link in enumerate(links if below else links[:1]):
        if link.header is None:
            continue
        if number:
            yield Opened(link.path, False)
        yield from (Opened(each, not number) for each in content_of(link.path, link.header))
        if below and link.header.backing_file:
            yield from (Opened(each, False) for each in chain.possible_files(link.path, link.header.backing_file))
