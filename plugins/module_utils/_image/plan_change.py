# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""The steps for an image that is there and differs from what is asked. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import words
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._core.size import human
from ansible_collections.platter.qemu.plugins.module_utils._formats.features import FEATURES, rounded_size
from ansible_collections.platter.qemu.plugins.module_utils._image import (
    actions,
    difference,
    plan_base,
    plan_options,
    plan_size,
    refuse,
    refuse_rewrite,
)
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._image.state import Backing, ImageReading, ImageState, Pairs

Plan = t.List[actions.ImageAction]


def plan_change(spec: ImageSpec, state: ImageState, reading: ImageReading) -> Plan:
    """In place where QEMU can, else by a rewrite that the task allows. Raises RefusedError."""
    if not state.base_unchanged:
        from ansible_collections.platter.qemu.plugins.module_utils._image import refuse_changed

        refuse_changed.refuse_changed_base(spec, state, reading)
    differences = _what_needs_rewriting(spec, state, reading)
    plan: Plan = []
    if differences:
        plan = _plan_rewrite(spec, state, reading, differences)
    else:
        repair = _plan_repair(spec, state, reading)
        plan = repair + _plan_base_and_options(spec, state, reading) + plan_size.plan_resize(spec, state, reading)
        plan += plan_keyslots(spec, state) + _plan_attributes(spec, predict(state, repair), reading)
        _refuse_writing_to_damage(spec, predict(state, repair), plan[len(repair) :])
    if spec.repair or any(_opens_chain(action) for action in plan):
        safely = any(isinstance(action, actions.RebaseImage) and action.safe for action in plan)
        renamed = not spec.repair and renamed_base(plan) is not None
        refuse.refuse_broken_chain(spec, reading, present=not renamed, base=safely or renamed)
    return plan


def renamed_base(plan: t.Sequence[actions.ImageAction]) -> t.Optional[Backing]:
    """The base that C(plan) names before it does anything else, reading neither it nor the one before; None without
    such a step. What is cut off was looked at before, with the base that is there now.
    """
    first = plan[0] if plan else None
    cuts = any(isinstance(action, actions.ResizeImage) and action.shrink for action in plan)
    return first.backing if isinstance(first, actions.RebaseImage) and not first.safe and not cuts else None


def _plan_rewrite(spec: ImageSpec, state: ImageState, reading: ImageReading, differences: t.Tuple[str, ...]) -> Plan:
    """The rewrite keeps the base, if the new format can have it; another base comes after it."""
    rewrite = _rewrite(spec, state, reading, differences)
    kept = reading.current_base_is_asked and rewrite.backing is not None
    after = rewrite.apply(state)
    compat = dict(_options_of_copy(spec, reading)).get("compat")
    base = plan_base.plan_base(spec, after, replace(reading, current_base_is_asked=kept), compat)
    return [rewrite, *base, *plan_keyslots(spec, after)]


def _options_of_copy(spec: ImageSpec, reading: ImageReading) -> Pairs:
    """The asked options, and what the rewritten image takes over."""
    return difference.kept_options(spec.options, t.cast(str, spec.format), reading) + spec.options


def _plan_base_and_options(spec: ImageSpec, state: ImageState, reading: ImageReading) -> Plan:
    """compat 1.1 before a first base: only there can one be put under an image without changing what it shows."""
    amend = plan_options.plan_amend(spec, state, reading)
    if state.backing is None and spec.option("compat") == "1.1":
        return amend + plan_base.plan_base(spec, state, reading, "1.1")
    told = reading.header.options if reading.header else {}
    return plan_base.plan_base(spec, state, reading, told.get("compat")) + amend


def _opens_chain(action: actions.ImageAction) -> bool:
    """Whether QEMU opens the image with all that it is built on."""
    return action.writes_content and not (isinstance(action, actions.RebaseImage) and not action.safe)


def _what_needs_rewriting(spec: ImageSpec, state: ImageState, reading: ImageReading) -> t.Tuple[str, ...]:
    """Differences that no in-place change can mend, as phrases; refused unless the task allows a rewrite."""
    phrases = []
    if spec.format != state.format:
        phrases.append("format %s instead of %s" % (state.format, spec.format))
    else:
        for name, old, new in difference.option_differences(spec, state):
            if not difference.amendable(spec, reading, name, new):
                phrases.append("%s %s instead of %s" % (name, words.shown(old), words.shown(new)))
        if plan_size.needs_resize(spec, state) and not plan_size.can_resize(spec, state):
            phrases.append("size %s instead of %s" % (human(state.virtual_size or 0), human(spec.size or 0)))
    if phrases and not spec.allow_rewrite:
        described = "Describe the image as it is" if spec.format == state.format else "Correct format to what it is"
        raise refuse.refused(
            spec,
            "exists_different",
            "the image there differs in what cannot be changed in place (%s)" % "; ".join(phrases),
            described
            + "; or set allow_rewrite to true to have it copied into a new file that differs in this only, and"
            " that takes its place.",
            {"differences": phrases},
        )
    return tuple(phrases)


def _rewrite(
    spec: ImageSpec, state: ImageState, reading: ImageReading, differences: t.Tuple[str, ...]
) -> actions.RewriteImage:
    refuse_rewrite.refuse_losing_rewrite(spec, reading)
    refuse_rewrite.refuse_rewritten_damage(spec, state, reading)
    refuse_rewrite.refuse_rewritten_data_file(spec, differences)
    refuse_rewrite.refuse_rewritten_keys(spec, reading)
    refuse.refuse_split_backup(spec, reading)
    size = t.cast(int, state.virtual_size)
    if plan_size.needs_resize(spec, state):
        if t.cast(int, spec.size) < size:
            refuse.refuse_shrink(spec, size, reading.data_end)
        size = t.cast(int, spec.size)
    size = rounded_size(t.cast(str, spec.format), size, dict(_options_of_copy(spec, reading)))
    plan_size.refuse_too_large(spec, size)
    backing = _rewritten_backing(spec, state)
    plan_options.refuse_impossible(spec, _options_of_copy(spec, reading), backing)
    if backing and size != state.virtual_size:
        raise refuse.refused(
            spec,
            "exists_different",
            "an overlay cannot be rewritten to another size in one step",
            "Change the size and the rest in two tasks, or set flatten to true.",
            {"differences": list(differences)},
        )
    return actions.RewriteImage(
        path=spec.path,
        format=t.cast(str, spec.format),
        virtual_size=size,
        options=spec.options,
        backing=backing,
        attributes=reading.desired_attributes or state.attributes,
        keyslots=asked_keyslots(spec),
        old_format=t.cast(str, state.format),
        differences=differences,
        compressed=spec.compressed,
    )


def _rewritten_backing(spec: ImageSpec, state: ImageState) -> t.Optional[Backing]:
    bases = FEATURES[t.cast(str, spec.format)].backing
    if spec.flatten or not bases:
        return None
    return state.backing if state.backing and state.backing.format in bases else None


def _plan_repair(spec: ImageSpec, state: ImageState, reading: ImageReading) -> Plan:
    wanted = state.leaks + (state.corruptions if spec.repair == "all" else 0)
    if not spec.repair or not wanted:
        return []
    format_name, attributes = t.cast(str, spec.format), reading.desired_attributes
    repair = actions.RepairImage(spec.path, format_name, spec.repair, state.leaks, state.corruptions)
    return [replace(repair, attributes=attributes) if repair.replaces_file else repair]


def _refuse_writing_to_damage(spec: ImageSpec, state: ImageState, steps: Plan) -> None:
    """Where a count says that a cluster is free, QEMU puts the next one that it needs over the guest's data."""
    if state.corruptions and any(step.writes_content for step in steps):
        raise refuse.refused(
            spec,
            "image_corrupt",
            "qemu-img check finds %s in it, and what is written to it may go over its data"
            % words.counted(state.corruptions, "corruption"),
            "Set repair to all, which repairs it first, in a copy, and keeps the damaged file.",
            {"corruptions": state.corruptions, "actions": [str(step) for step in steps]},
        )


def asked_keyslots(spec: ImageSpec) -> t.Optional[t.Tuple[int, ...]]:
    """What a new LUKS image has, where the task says anything of its slots: one key, in slot 0."""
    return (0,) if spec.encryption and spec.encryption.keyslots else None


def plan_keyslots(spec: ImageSpec, state: ImageState) -> Plan:
    """New keys before the removal of old ones, and never the last."""
    if not spec.encryption or state.keyslots is None:
        return []
    active = set(state.keyslots)
    changes = tuple(slot for slot in spec.encryption.keyslots if slot.active != (slot.slot in active))
    if not changes:
        return []
    action = actions.ChangeKeyslots(
        spec.path, t.cast(str, spec.format), tuple(sorted(changes, key=lambda s: (not s.active, s.slot)))
    )
    if not action.apply(state).keyslots:
        raise refuse.refused(spec, "last_keyslot", "no key would be left", "Keep or add at least one key slot.")
    return [action]


def _plan_attributes(spec: ImageSpec, state: ImageState, reading: ImageReading) -> Plan:
    if reading.desired_attributes == state.attributes:
        return []
    return [actions.SetAttributes(spec.path, reading.desired_attributes, state.attributes)]
