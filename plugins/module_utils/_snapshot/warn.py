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
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import SnapshotState

#: names in a sentence
_MOST_NAMED = 10


def warnings(spec: SnapshotSpec, state: SnapshotState) -> t.List[str]:
    """Sentences about the image as it is now."""
    return [*_altered(spec, state), *_unfit(spec, state)]


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
