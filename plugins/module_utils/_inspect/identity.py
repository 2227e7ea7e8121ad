# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""What a disk is known by before anything is done with it: its size, what it carries, and how it begins."""

from __future__ import annotations

import hashlib
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import header, words
from ansible_collections.platter.qemu.plugins.module_utils._formats import registry
from ansible_collections.platter.qemu.plugins.module_utils._inspect import signature, signatures

_EDGE, _BEGINNING = 512, 1 << 20


class Window:
    """A part of a disk, as a disk of its own."""

    def __init__(self, source: header.ByteSource, offset: int, length: int) -> None:
        self._source = source
        self._offset = offset
        self.length = length

    def read(self, offset: int, size: int) -> bytes:
        """C(size) bytes at C(offset), fewer at the end."""
        return self._source.read(self._offset + offset, max(0, min(size, self.length - offset)))


def identity_of(source: header.ByteSource) -> t.Dict[str, t.Any]:
    """Facts of a disk as it is read from C(source); C(beginning_sha256) is of its first MiB, or less if it is shorter.

    C(formats): those of images that its bytes look like. Raises what the source raises.
    """
    beginning = source.read(0, min(_BEGINNING, source.length))
    end = source.read(max(0, source.length - _EDGE), _EDGE)
    return {
        "size": source.length,
        "formats": list(registry.detect(beginning[:_EDGE], end)),
        "signatures": [
            {"type": each.type, "uuid": each.uuid or None, "label": words.printable(each.label) or None}
            for each in signatures.signatures(source)
        ],
        "beginning_sha256": hashlib.sha256(beginning).hexdigest(),
    }


def contents_of(source: header.ByteSource) -> t.Tuple[t.List[signatures.Signature], t.Tuple[str, ...]]:
    """What is recognised on a disk, by as few reads as that takes: signatures, and the formats of images that its bytes
    look like.
    """
    view = signature.View(source)
    first, last = view.read(0, _EDGE), view.read(max(0, source.length - _EDGE), _EDGE)
    return signatures.signatures(view), registry.detect(first, last)
