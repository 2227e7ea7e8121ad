# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The last look before a layer's file is removed: who names it on the disk, and who has it open."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._inspect import dependents, named_files
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import state
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import image_lock


def places_of(spec: SnapshotSpec, reading: state.SnapshotReading) -> t.List[str]:
    """The directories of a disk's layers, and of what may be built on them."""
    return sorted({*(os.path.dirname(path) for path in (reading.named, *reading.layers)), *spec.overlay_directories})


def refuse_built_on(path: str, places: t.Sequence[str]) -> None:
    """Raises FailedError (has_overlays) when an image in these directories names the file."""
    overlays = dependents.find_dependents([path], places, named_files.recorded_base)[path]
    if overlays:
        raise errors.FailedError(
            "failed: other images are built on %s, which was to go: %s." % (path, ", ".join(overlays[:5])),
            reason="has_overlays",
            evidence={"overlays": overlays},
        )


@contextlib.contextmanager
def unused(path: str, places: t.Sequence[str]) -> t.Iterator[None]:
    """While the block runs no QEMU can open the file; nobody has it open, and nobody is built on it. FailedError."""
    with contextlib.ExitStack() as lock:
        try:
            lock.enter_context(image_lock.image_lock(path, readers=False))
        except errors.RefusedError as exc:
            if exc.reason != "lock_untrusted":  # where there are no locks, QEMU has none either
                fact = "failed: %s was to go, and a QEMU has it open." % path
                raise errors.FailedError(fact, reason=exc.reason, evidence=exc.facts["evidence"]) from exc
        refuse_built_on(path, places)
        yield
