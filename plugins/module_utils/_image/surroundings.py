# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""What there is around an image: what it is built on, its own backups, the image that it is a part of. Read-only."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.header import SplitExtent
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import image
from ansible_collections.platter.qemu.plugins.module_utils._tools import files


def base_facts(path: str) -> files.FileFacts:
    """A base that cannot be looked at is as good as missing."""
    try:
        return files.file_facts(path)
    except (errors.EngineError, ValueError):
        return files.FileFacts(path, "absent")


class Chain(t.NamedTuple):
    """What an image that is there is built on. C(problem): what is wrong with it (reason, sentence). C(base_size): in bytes."""

    problem: t.Optional[t.Tuple[str, str]] = None
    base_size: t.Optional[int] = None
    paths: t.Tuple[str, ...] = ()


def chain_of(path: str, seen: image.Seen) -> Chain:
    """Of one that names no other file there is nothing to tell."""
    if seen.header is None or not seen.header.references:
        return Chain()
    from ansible_collections.platter.qemu.plugins.module_utils._inspect import chain as chains

    found = chains.walk_chain(path, seen.header.format, image.chain_header)
    below = found.links[1].header if len(found.links) > 1 else None
    problem = chains.problem_of(found) or chains.encrypted_base(found.links[1:])
    return Chain(problem, below.virtual_size if below else None, chains.files_of(found))


def lacking(path: str, seen: image.Seen) -> t.Optional[t.Tuple[str, str]]:
    """What is missing of an image that has its content in other files: (reason, sentence)."""
    if seen.header is None or not (seen.header.data_file or seen.header.extents):
        return None
    from ansible_collections.platter.qemu.plugins.module_utils._inspect import whole

    return whole.lacking(path, seen.header)


def extent_of(spec: ImageSpec, seen: image.Seen) -> t.Optional[SplitExtent]:
    """The split image of which the file is a member, if it is no image by itself."""
    declared_raw = seen.header and seen.header.format == "raw" and spec.path.endswith(".vmdk")
    if seen.facts.kind != "file" or (seen.header is not None and not declared_raw):
        return None
    from ansible_collections.platter.qemu.plugins.module_utils._inspect.descriptor import split_extent

    return split_extent(spec.path, seen)


def backups_of(spec: ImageSpec, facts: files.FileFacts) -> int:
    """How many names of the file are backups of it that a killed run of ours has made."""
    if facts.kind != "file" or facts.nlink < 2:
        return 0
    from ansible_collections.platter.qemu.plugins.module_utils._image import backups

    return len(backups.names_of(spec.path, facts.identity))
