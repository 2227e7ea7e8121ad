# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a user should know of an image's snapshots though nothing is refused for it. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._snapshot import retention
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import SnapshotReading, SnapshotState

#: names in a sentence
_MOST_NAMED = 10


def warnings(spec: SnapshotSpec, state: SnapshotState, reading: SnapshotReading) -> t.List[str]:
    """Sentences about the image as it is now."""
    return [
        *_altered(spec, state),
        *_unfit(spec, state),
        *_other_kind(spec, reading),
        *_hidden(spec, state, reading),
    ]


def _other_kind(spec: SnapshotSpec, reading: SnapshotReading) -> t.List[str]:
    names = [name for name in reading.other_kind if retention.fits(name, spec.match)]
    if spec.state != "pruned" or not names:
        return []
    kind = "internal" if spec.external else "external"
    more = ", and %d more" % (len(names) - _MOST_NAMED) if len(names) > _MOST_NAMED else ""
    words = (kind, spec.image, spec.match, ", ".join(names[:_MOST_NAMED]) + more, kind)
    return ["The %s snapshots of %s that fit match=%s are not looked at: %s. Set kind: %s for those." % words]


def _hidden(spec: SnapshotSpec, state: SnapshotState, reading: SnapshotReading) -> t.List[str]:
    """What a file has beside its data stays in it when an overlay is put on it."""
    layer = reading.layers.get(state.active)
    taken = spec.external and spec.state == "present" and spec.name and state.point(spec.name) is None
    if not taken or layer is None or not layer.beside:
        return []
    return [
        "The %s of %s stay in the file of snapshot %s; the disk has none from then on."
        % (layer.beside, layer.path, spec.name)
    ]


def _altered(spec: SnapshotSpec, state: SnapshotState) -> t.List[str]:
    words = [(point.path, point.name) for point in state.points if point.altered and not spec.allow_altered]
    return ["Somebody has written to %s since it became snapshot %s. See allow_altered." % each for each in words]


def _unfit(spec: SnapshotSpec, state: SnapshotState) -> t.List[str]:
    """That a pattern fits nothing of what there is, as a wrong one does."""
    if spec.state != "pruned" or not state.points or any(retention.fits(name, spec.match) for name in state.names):
        return []
    more = ", and %d more" % (len(state.points) - _MOST_NAMED) if len(state.points) > _MOST_NAMED else ""
    named = ", ".join(state.names[:_MOST_NAMED]) + more
    return ["No snapshot of %s fits match=%s; there are: %s." % (spec.image, spec.match, named)]
