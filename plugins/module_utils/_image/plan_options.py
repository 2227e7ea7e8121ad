# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""The step to other create options, in place; and what no image can have together. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._formats.options import find_option
from ansible_collections.platter.qemu.plugins.module_utils._image import actions, difference, refuse
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._image.state import Backing, ImageReading, ImageState, Pairs

Plan = t.List[actions.ImageAction]


def plan_amend(spec: ImageSpec, state: ImageState, reading: ImageReading) -> Plan:
    """Changes that qemu-img amend can make. Raises RefusedError."""
    found = difference.option_differences(spec, state)
    if not found:
        return []
    changes = tuple((name, new) for name, _old, new in found)
    old = tuple((name, old) for name, old, _new in found)
    # QEMU says nothing of it: version 2 has no place for that flag
    told = reading.header.options if reading.header else {}
    lost = ("compat", "0.10") in changes and told.get("lazy_refcounts") and spec.option("lazy_refcounts") is None
    drops = ("lazy_refcounts",) if lost else ()
    kept = tuple((name, value) for name, value in told.items() if name not in drops and find_option("qcow2", name))
    if spec.format == "qcow2":
        refuse_impossible(spec, kept + changes)
        _refuse_small_counts(spec, reading, dict(changes).get("refcount_bits"))
    return [actions.AmendImage(spec.path, t.cast(str, state.format), changes, old, drops)]


def _refuse_small_counts(spec: ImageSpec, reading: ImageReading, bits: t.Optional[int]) -> None:
    """Each internal snapshot may count every cluster once more."""
    count = 1 + len(reading.header.snapshots) if reading.header else 1
    if bits and count >= 1 << bits:
        raise refuse.refused(
            spec,
            "exists_different",
            "its internal snapshots may take counts up to %d, for which %d refcount bits have no room" % (count, bits),
            "Delete snapshots first, or choose more bits.",
            {"refcount_bits": bits, "count": count},
        )


def refuse_impossible(spec: ImageSpec, options: Pairs, backing: t.Optional[Backing] = None) -> None:
    """The asked options must go together with those that the image has and keeps (C(options): both)."""
    from ansible_collections.platter.qemu.plugins.module_utils._formats.rules import validate_options

    named = {"backing_file": backing.path, "backing_fmt": backing.format} if backing else {}
    problems = validate_options(t.cast(str, spec.format), {**dict(options), **named})
    if problems:
        raise refuse.refused(
            spec,
            "exists_different",
            "the asked options do not go together with what the image there has: %s" % "; ".join(problems),
            "Set the other options that these need as well, or describe the image as it is.",
            {"problems": problems},
        )
