# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The steps for persistent dirty bitmaps. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._snapshot import actions, refuse
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import BitmapSpec, SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import (
    BitmapState,
    SnapshotReading,
    SnapshotState,
)

Plan = t.List[actions.SnapshotAction]
#: QEMU's choice for clusters of up to 64 KiB (block/dirty-bitmap.c: bdrv_get_default_bitmap_granularity)
_LEAST_DEFAULT, _MOST_DEFAULT = 4096, 65536


def plan_bitmaps(spec: SnapshotSpec, state: SnapshotState, reading: SnapshotReading) -> Plan:
    """The steps for each bitmap that the task names. New ones first, as they may be merged from one that goes."""
    there = {bitmap.name: bitmap for bitmap in state.bitmaps}
    plan: Plan = []
    for asked in spec.bitmaps:
        plan += _plan_present(spec, state, reading, asked, there) if asked.present else []
    gone = [asked.name for asked in spec.bitmaps if not asked.present and asked.name in there]
    return plan + [actions.RemoveBitmap(state.active, name) for name in gone]


def _plan_present(
    spec: SnapshotSpec,
    state: SnapshotState,
    reading: SnapshotReading,
    asked: BitmapSpec,
    there: t.Dict[str, BitmapState],
) -> Plan:
    found = there.get(asked.name)
    if found is None:
        return [_add(spec, state, reading, asked, there)]
    _refuse_other_granularity(spec, asked, found)
    _refuse_inconsistent(spec, found)
    if asked.enabled is not None and asked.enabled != found.enabled:
        return [actions.SwitchBitmap(state.active, asked.name, asked.enabled)]
    return []


def _add(
    spec: SnapshotSpec,
    state: SnapshotState,
    reading: SnapshotReading,
    asked: BitmapSpec,
    there: t.Dict[str, BitmapState],
) -> actions.AddBitmap:
    _refuse_old_compat(spec, reading)
    missing = [name for name in asked.sources if name not in there]
    if missing:
        raise refuse.refused(
            spec,
            "bitmap_missing",
            "bitmap %s is to be merged from others that are not there: %s" % (asked.name, ", ".join(missing)),
            "Name bitmaps that are there in its sources.",
            {"bitmaps": sorted(there)},
        )
    for name in asked.sources:
        _refuse_inconsistent(spec, there[name])
    granularity = asked.granularity or _default_granularity(reading)
    enabled = asked.enabled is not False
    bitmap = BitmapState(asked.name, enabled, granularity)
    there[asked.name] = bitmap
    return actions.AddBitmap(state.active, bitmap, asked.granularity, asked.sources)


def _default_granularity(reading: SnapshotReading) -> int:
    cluster = (reading.header.cluster_size if reading.header else None) or _MOST_DEFAULT
    return max(_LEAST_DEFAULT, min(cluster, _MOST_DEFAULT))


def _refuse_old_compat(spec: SnapshotSpec, reading: SnapshotReading) -> None:
    if reading.header and reading.header.options.get("compat") == "0.10":
        raise refuse.refused(
            spec,
            "bitmaps_unsupported",
            "images of compat 0.10 keep no bitmaps",
            "Amend it first (disk_image, options: {compat: '1.1'}).",
        )


def _refuse_other_granularity(spec: SnapshotSpec, asked: BitmapSpec, found: BitmapState) -> None:
    if asked.granularity is not None and asked.granularity != found.granularity:
        raise refuse.refused(
            spec,
            "exists_different",
            "bitmap %s has a granularity of %d bytes, not %d" % (asked.name, found.granularity, asked.granularity),
            "Describe it as it is, or remove it first: what it has recorded is then lost.",
            {"granularity": found.granularity, "asked": asked.granularity},
        )


def _refuse_inconsistent(spec: SnapshotSpec, found: BitmapState) -> None:
    if found.in_use:
        raise refuse.refused(
            spec,
            "bitmap_inconsistent",
            "bitmap %s was not written back by the QEMU that had it open last: it may miss writes" % found.name,
            "Remove it (state: absent), and make a full backup.",
            {"bitmap": found.name},
        )
