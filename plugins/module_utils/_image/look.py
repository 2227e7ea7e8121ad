# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""What lies at an image's path, of the format that the task asks for, or of the one that is to become it. Read-only."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._image import refuse
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import image


def look(spec: ImageSpec) -> image.Seen:
    """The image as it is now. Raises RefusedError where nothing tells whether C(current_format) is still true.

    Without a record the bytes say what is there, and the guest of a raw disk (a fixed VHD is one too) writes those: a
    header of the other format, and in it the name of any file, which would be read as its base.
    """
    seen = image.look_at(spec.path, spec.format, follow=False)
    current = spec.current_format
    if current in (None, spec.format):
        return seen
    if spec.state == "present" and not _is_remembered(seen):
        if spec.format in seen.detected and (current == "raw" or current in seen.detected):
            raise _converted_or_not(spec, seen)
        if spec.format == "raw" and current in seen.detected:
            return _alone(spec, image.look_at(spec.path, current, follow=False))
    return seen if seen.header else image.look_at(spec.path, current, follow=False)


def _is_remembered(seen: image.Seen) -> bool:
    known = seen.record.get("format")
    return known == "raw" or known in seen.detected


def _converted_or_not(spec: ImageSpec, seen: image.Seen) -> errors.RefusedError:
    return refuse.refused(
        spec,
        "format_mismatch",
        "it is declared %s as yet and looks like %s, and nothing remembers that it was converted: its guest can have "
        "written that" % (spec.current_format, spec.format),
        "If it has been converted, leave current_format out; if not, import it (source, with source.trusted) to "
        "another name.",
        _evidence(spec, seen),
    )


def _alone(spec: ImageSpec, seen: image.Seen) -> image.Seen:
    """C(seen), which becomes raw: what it names might be named by the guest of what is raw already."""
    if seen.header and seen.header.references:
        kind, target = seen.header.references[0]
        raise refuse.refused(
            spec,
            "format_mismatch",
            "it looks like %s, which names %s as its %s, and nothing remembers that it is: the guest of a raw disk can "
            "have written that" % (spec.current_format, target, kind.replace("_", " ")),
            "Have it stand for itself first, in a task that declares it %s and flattens it, or makes it qcow2."
            % spec.current_format,
            dict(_evidence(spec, seen), file=target),
        )
    return seen


def _evidence(spec: ImageSpec, seen: image.Seen) -> t.Dict[str, t.Any]:
    return {"asked": spec.format, "current_format": spec.current_format, "found": list(seen.detected)}
