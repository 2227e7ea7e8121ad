# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The gate that every source passes before QEMU sees it: a foreign image must stand for itself alone. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, size
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header, Reference

#: what may be imported without being trusted; the readers of the others are seldom used, and so seldom tested
ALLOWED_FORMATS = ("raw", "qcow2", "vmdk", "vhdx", "vpc", "vdi", "parallels")
#: the largest virtual size of an untrusted source, in bytes
LARGEST_UNTRUSTED = 1 << 40


class Gate:
    """Refuses an untrusted source. C(asked), C(path): for the sentence; C(limit): the largest virtual size in bytes."""

    def __init__(self, source: str, path: str, limit: t.Optional[int] = None) -> None:
        self._source = source
        self._path = path
        self._limit = limit or LARGEST_UNTRUSTED

    def _refused(self, reason: str, fact: str, way_out: str, **evidence: t.Any) -> errors.RefusedError:
        asked = "the import of %s" % self._source
        return errors.RefusedError(
            asked, self._path, fact, reason=reason, way_out=way_out, evidence=evidence, joined="to"
        )

    def check(self, header: Header, declared: str, detected: t.Tuple[str, ...]) -> None:
        """Raises RefusedError with the first reason against this source."""
        self._format(declared, detected)
        if header.unknown_features:
            raise self._refused(
                "unknown_features",
                "it uses features that are not known here: %s" % ", ".join(header.unknown_features),
                "Set source.trusted to true if you made this image yourself.",
                unknown_features=list(header.unknown_features),
            )
        for reference in header.references:
            raise self._reference(reference)
        self.check_size(header.virtual_size)

    def check_size(self, virtual_size: int) -> None:
        """Raises RefusedError for a source that is larger than the limit."""
        if virtual_size > self._limit:
            raise self._refused(
                "bad_size",
                "its virtual size is %s, more than %s" % (size.human(virtual_size), size.human(self._limit)),
                "Set max_virtual_size to allow it.",
                virtual_size=virtual_size,
            )

    def _format(self, declared: str, detected: t.Tuple[str, ...]) -> None:
        if declared not in ALLOWED_FORMATS:
            raise self._refused(
                "format_not_allowed",
                "%s images are only read when they are trusted" % declared,
                "Set source.trusted to true if you made this image yourself.",
                format=declared,
            )
        others = [name for name in detected if name != declared]
        if others:
            raise self._refused(
                "format_mismatch",
                "it is declared %s, but its bytes also say %s" % (declared, ", ".join(others)),
                "Set source.format to what it is; or set source.trusted to true if this is meant.",
                asked=declared,
                found=list(detected),
            )

    def _reference(self, reference: Reference) -> errors.RefusedError:
        protocol = ":" in reference.target.split("/", 1)[0]
        return self._refused(
            "backing_protocol_refused" if protocol else "image_references_file",
            "it refers to another file as its %s: %r" % (reference.kind.replace("_", " "), reference.target),
            "Set source.trusted to true if you know where it comes from and want that file read.",
            kind=reference.kind,
            target=reference.target,
        )
