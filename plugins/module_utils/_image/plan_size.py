# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""The step to another virtual size. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.size import human
from ansible_collections.platter.qemu.plugins.module_utils._formats.features import FEATURES, largest_size
from ansible_collections.platter.qemu.plugins.module_utils._image import actions, refuse
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._image.state import ImageReading, ImageState

Plan = t.List[actions.ImageAction]


def needs_resize(spec: ImageSpec, state: ImageState) -> bool:
    """Formats that round keep what they were made with: the asked size and the rounded one are both right."""
    return spec.size is not None and state.virtual_size not in (spec.size, spec.effective_size)


def can_resize(spec: ImageSpec, state: ImageState) -> bool:
    """Whether QEMU grows, or shrinks, images of the format."""
    features = FEATURES[t.cast(str, state.format)]
    return features.grow if t.cast(int, spec.size) > t.cast(int, state.virtual_size) else features.shrink


def plan_resize(spec: ImageSpec, state: ImageState, reading: ImageReading) -> Plan:
    """Growing or shrinking in place. Raises RefusedError."""
    if not needs_resize(spec, state):
        return []
    old, new = t.cast(int, state.virtual_size), t.cast(int, spec.effective_size)
    if reading.fixed and spec.format == "raw":
        raise refuse.refused(
            spec,
            "exists_different",
            "the %s has %s, not %s" % (reading.thing, human(old), human(new)),
            "Change the %s with the tool that made it, or leave size out." % reading.thing,
            {"device_size": old, "size": new},
        )
    if new < old:
        refuse.refuse_shrink(spec, old, reading.data_end)
    refuse_too_large(spec, new)
    _refuse_old_snapshots(spec, reading)
    _refuse_uncovered_base(spec, reading, old, new)
    return [actions.ResizeImage(spec.path, t.cast(str, state.format), old, new)]


def _refuse_old_snapshots(spec: ImageSpec, reading: ImageReading) -> None:
    """Version 2 does not say how large the disk of a snapshot was, so that QEMU resizes none that has some."""
    header = reading.header
    if header is None or not header.snapshots or (spec.option("compat") or header.options.get("compat")) != "0.10":
        return
    names = [snapshot.name for snapshot in header.snapshots]
    raise refuse.refused(
        spec,
        "exists_different",
        "an image of compat 0.10 with internal snapshots is not resized by QEMU: %s" % ", ".join(names[:5]),
        "Set options.compat to '1.1' in the same task; or delete the snapshots first.",
        {"snapshots": names},
    )


def _refuse_uncovered_base(spec: ImageSpec, reading: ImageReading, old: int, new: int) -> None:
    """What a longer base holds beyond the old end must not show: QEMU covers it by zeros, where the format has such."""
    below = _base_size(spec, reading)
    told = reading.header.options if reading.header else {}
    first = -(-old // told["cluster_size"]) * told["cluster_size"] if told.get("cluster_size") else old
    if spec.format == "qcow2" and ((spec.option("compat") or told.get("compat")) != "0.10" or new <= first):
        return
    if below is None or below <= old or new <= old:
        return
    raise refuse.refused(
        spec,
        "exists_different",
        "its backing file has %s, more than the image (%s), and what it holds there would show in the grown image"
        % (human(below), human(old)),
        "Set options.compat to 1.1 in the same task."
        if spec.format == "qcow2"
        else "Convert it to qcow2 (current_format, allow_rewrite), or flatten it.",
        {"base_size": below, "virtual_size": old},
    )


def _base_size(spec: ImageSpec, reading: ImageReading) -> t.Optional[int]:
    """Bytes of what the image is built on when it is resized, as far as that can be read."""
    if spec.flatten:
        return None
    return reading.base.virtual_size if spec.backing and reading.base else reading.current_base_size


def refuse_shrinking_import(spec: ImageSpec, found: int) -> None:
    """Where the data in a source of C(found) bytes ends is not looked for, so that both consents are needed."""
    if spec.allow_shrink and spec.discard_data:
        return
    new = t.cast(int, spec.effective_size)
    raise refuse.refused(
        spec,
        "shrink_cuts_data" if spec.allow_shrink else "shrink_refused",
        "its source has a virtual size of %s, and %s would cut off its end. Where the data in a source ends is not looked for"
        % (human(found), human(new)),
        "Import it whole (without size), and shrink it in a later task (size, allow_shrink), which looks for that; or set "
        "allow_shrink and discard_data to true to lose what lies there.",
        {"virtual_size": found, "size": new},
    )


def refuse_too_large(spec: ImageSpec, size: int) -> None:
    """The format has a limit, and the task may have one (C(max_virtual_size)), in bytes."""
    largest = largest_size(t.cast(str, spec.format), dict(spec.options))
    if size > largest:
        raise refuse.refused(
            spec,
            "bad_size",
            "%s images have %s at most with these options, not %s" % (spec.format, human(largest), human(size)),
            "Choose a smaller size, or another format.",
            {"virtual_size": size, "largest": largest},
        )
    if spec.max_virtual_size is not None and size > spec.max_virtual_size:
        raise refuse.refused(
            spec,
            "bad_size",
            "its virtual size would be %s, and max_virtual_size is %s" % (human(size), human(spec.max_virtual_size)),
            "Raise max_virtual_size if that is meant.",
            {"virtual_size": size, "max_virtual_size": spec.max_virtual_size},
        )
