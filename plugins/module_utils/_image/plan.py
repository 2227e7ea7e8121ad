# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""From what is asked and what is so to the steps between them, or to a refusal. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.size import human
from ansible_collections.platter.qemu.plugins.module_utils._formats import features
from ansible_collections.platter.qemu.plugins.module_utils._image import (
    actions,
    plan_base,
    plan_size,
    refuse,
    refuse_rewrite,
)
from ansible_collections.platter.qemu.plugins.module_utils._image.plan_change import (
    asked_keyslots,
    plan_change,
    plan_keyslots,
)
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._image.state import ImageReading, ImageState

Plan = t.List[actions.ImageAction]


def plan_image(spec: ImageSpec, state: ImageState, reading: ImageReading) -> Plan:
    """The steps that make C(state) what C(spec) asks; empty when it is so already. Raises RefusedError."""
    refuse.refuse_impossible_file(spec, reading)
    refuse.refuse_extent(spec, reading)
    if spec.state == "absent":
        return _plan_absent(spec, state, reading)
    refuse.refuse_bad_base(spec, reading)
    refuse.refuse_squatted_members(spec, reading)
    if reading.unfinished and not (spec.source and spec.source.policy == "if_changed"):
        raise _unfinished(spec, reading.unfinished)
    if not state.exists:
        return _plan_new(spec, reading)
    refuse.refuse_foreign_content(spec, reading)
    if reading.kind == "export":
        refuse.refuse_other_content(spec, state, reading)
    if reading.source and spec.source and spec.source.policy == "if_changed" and _differs(reading):
        refuse.refuse_split_backup(spec, reading)
        refuse_rewrite.refuse_replaced_keys(spec, reading)
        imported = _import(spec, reading, replaces=reading.source.why)
        plan: Plan = [imported, *plan_keyslots(spec, imported.apply(state))]
    else:
        plan = plan_change(spec, state, reading)
        if reading.kind == "export":
            refuse.refuse_edits(spec, plan)
    if any(
        isinstance(action, (actions.AcceptBase, actions.ImportImage, actions.RebaseImage, actions.RewriteImage))
        for action in plan
    ):
        refuse_rewrite.refuse_with_points(spec, reading)
    refuse.refuse_hard_links(spec, reading, plan)
    _refuse_replacing_a_device(spec, reading, plan)
    return plan


def _refuse_replacing_a_device(spec: ImageSpec, reading: ImageReading, plan: Plan) -> None:
    """What is done in a copy ends with the copy taking the name: a file would stand where the node of the device was."""
    copied = (actions.RewriteImage, actions.RepairImage)
    if reading.kind == "block" and any(isinstance(a, copied) and a.replaces_file for a in plan):
        raise refuse.refused(
            spec,
            "is_device",
            "it is a block device, and the change is made in a copy that takes the name of the image",
            "Import it to a file, change that, and import that to the device (source_policy: if_changed).",
            {"actions": [str(action) for action in plan]},
        )


def _unfinished(spec: ImageSpec, note: str) -> errors.RefusedError:
    """Nobody can tell whether the rest has come by other means since; so only a task that may replace goes on."""
    return refuse.refused(
        spec,
        "import_unfinished",
        "an import to the device was begun and has not ended, so that it holds a part of something",
        "Import to it again, with source_policy: if_changed; or, if it has been filled by other means since, remove %s."
        % note,
        {"note": note},
    )


def _differs(reading: ImageReading) -> bool:
    """Whether the source is not what the image holds; in an export this is known without a record."""
    changed = reading.source.changed if reading.source else False
    return bool(changed) or (reading.kind == "export" and changed is None)


def _plan_absent(spec: ImageSpec, state: ImageState, reading: ImageReading) -> Plan:
    if reading.kind == "absent":
        return []
    if reading.fixed:
        what = "an NBD export" if reading.kind == "export" else "a block device"
        way_out = "Remove the %s with the tool that made it." % reading.thing
        raise refuse.refused(spec, "not_removable", "it is %s" % what, way_out)
    if spec.format and state.exists and spec.format != state.format:
        raise refuse.refused(
            spec,
            "format_mismatch",
            "it is %s, not %s" % (state.format, spec.format),
            "Set format to what it is, or leave it out to remove whatever is there.",
            {"found": state.format, "asked": spec.format},
        )
    refuse.refuse_split_backup(spec, reading)
    return [actions.RemoveImage(spec.path, reading.members)]


# --- a new image


#: QEMU makes their files longer as they are written to, which no device becomes: seen on 7.2, EINVAL and ENOSPC
_GROWING = ("qcow", "qed", "vmdk", "vhdx")


def _plan_new(spec: ImageSpec, reading: ImageReading) -> Plan:
    if reading.kind == "block" and spec.format in _GROWING:
        raise refuse.refused(
            spec,
            "bad_option",
            "it is a block device, and the file of a %s image grows as it is written to" % spec.format,
            "Use raw or qcow2 on a device, or make a file.",
        )
    if (spec.format == "luks" or spec.option("encrypt_format")) and not spec.secrets:
        raise refuse.refused(
            spec, "secret_missing", "it is encrypted, and no secret is given", "Set encryption.secret."
        )
    why = "an import to it was begun and has not ended" if reading.unfinished else ""
    made: actions.ImageAction = _import(spec, reading, replaces=why) if spec.source else _create(spec, reading)
    return [made, *plan_keyslots(spec, made.apply(ImageState(spec.path)))]


def _device_size(spec: ImageSpec, reading: ImageReading, needed: int) -> int:
    """A raw image on a device is as large as the device."""
    if needed > reading.length:
        raise refuse.refused(
            spec,
            "would_exceed_space",
            "it needs %s, and the %s has %s" % (human(needed), reading.thing, human(reading.length)),
            "Use a larger %s." % reading.thing,
            {"needed_bytes": needed, "free_bytes": reading.length},
        )
    return reading.length


def _create(spec: ImageSpec, reading: ImageReading) -> actions.CreateImage:
    size = spec.effective_size
    if size is None and reading.base:
        size = reading.base.virtual_size
    if size is None and reading.fixed and spec.format == "raw":
        size = reading.length
    if size is None and not reading.base:
        raise refuse.refused(
            spec, "size_missing", "it does not exist and no size is given", "Set size, backing or source."
        )
    below = reading.base.virtual_size if reading.base else None
    if size is not None and below is not None and size < below:
        # what lies beyond the new end stays in the base, so that consent is enough
        refuse.refuse_shrink(spec, below, None, "its backing file")
    if size is not None:
        plan_size.refuse_too_large(spec, size)
    return actions.CreateImage(
        path=spec.path,
        format=t.cast(str, spec.format),
        virtual_size=size,
        options=spec.options,
        backing=plan_base.asked_backing(spec),
        attributes=reading.desired_attributes,
        keyslots=asked_keyslots(spec),
    )


def _import(spec: ImageSpec, reading: ImageReading, replaces: str = "") -> actions.ImportImage:
    source = reading.source
    found = source.virtual_size if source else None
    size = spec.effective_size
    if found is not None and size is not None and size < found and spec.size and spec.size < found:
        plan_size.refuse_shrinking_import(spec, found)
    if reading.fixed and spec.format == "raw":
        size = _device_size(spec, reading, size or found or 0)
    if size is None and found is not None:
        size = features.rounded_size(t.cast(str, spec.format), found, dict(spec.options))
    if size is not None:
        plan_size.refuse_too_large(spec, size)
    return actions.ImportImage(
        path=spec.path,
        format=t.cast(str, spec.format),
        virtual_size=size,
        options=spec.options,
        backing=None,
        attributes=reading.desired_attributes,
        keyslots=asked_keyslots(spec),
        source=t.cast(t.Any, spec.source),
        digest=source.digest if source else None,
        compressed=spec.compressed,
        replaces=replaces,
    )
