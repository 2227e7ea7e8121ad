# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Images that are built on the files of a disk and were not seen when the disk was: by a link, unreadable, or new.

Looked for before anything is changed, and once more before a file goes that is not needed any more. Read-only.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._inspect import block_use, dependents, named_files
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import layer_actions, merge_actions, refuse
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import SnapshotReading
from ansible_collections.platter.qemu.plugins.module_utils._tools import image_lock

#: a spec and what was read of its disk
Disk = t.Tuple[SnapshotSpec, SnapshotReading]


def harmed(action: t.Any) -> t.Tuple[str, ...]:
    """The files that nobody may be built on but the disk itself when C(action) is carried out."""
    if isinstance(action, merge_actions.CommitOverlay):
        return (action.base, action.overlay)
    if isinstance(action, merge_actions.FinishMerge):
        return (action.overlay,)
    if isinstance(action, merge_actions.StreamBase):
        return () if action.keeps else (action.base,)
    if isinstance(action, layer_actions.RemoveUnused):
        return (action.overlay,)
    if isinstance(action, merge_actions.RemoveLayer):
        return (str(action.point.path),)
    if isinstance(action, layer_actions.RevertOverlay) or getattr(action, "renames", False):
        return (t.cast(str, action.active),)
    return ()


def find_clones(
    paths: t.Collection[str], disks: t.Sequence[Disk], also: t.Collection[str] = (), *, nearby: bool = True
) -> t.Dict[str, t.List[str]]:
    """By path, the images on it that no reading of C(disks) has, of C(also) and, C(nearby), in the directories of these.
    Raises EngineError for what cannot be looked at.
    """
    if not paths:
        return {}
    layers = [layer for _spec, reading in disks for layer in (*reading.layers.values(), *reading.unused)]
    known = {block_use.identity_of(path) for layer in layers for path in (layer.path, *layer.children)}
    directories = {name for disk in disks for name in _directories(*disk)} if nearby else ()
    found = dependents.find_dependents(list(paths), sorted(directories), named_files.recorded_base, also=also)
    return {
        path: [each for each in overlays if block_use.identity_of(each) not in known]
        for path, overlays in found.items()
    }


def _directories(spec: SnapshotSpec, reading: SnapshotReading) -> t.Set[str]:
    """Those of a disk's layers, and of what may be built on them."""
    return {*(os.path.dirname(path) for path in (reading.named, *reading.layers)), *spec.overlay_directories}


def refuse_clones(spec: SnapshotSpec, reading: SnapshotReading, paths: t.Sequence[str]) -> None:
    """Under the locks of C(paths), before one is changed or goes. Raises RefusedError for an image that is on one."""
    for path, overlays in find_clones(paths, [(spec, reading)]).items():
        if overlays:
            raise has_overlays(spec, path, overlays)


def has_overlays(spec: SnapshotSpec, path: str, overlays: t.Sequence[str]) -> errors.RefusedError:
    """The refusal for images that would be damaged with C(path)."""
    return refuse.refused(
        spec,
        "has_overlays",
        "other images are built on %s: %s" % (path, ", ".join(overlays[:5])),
        "Remove, rebase or flatten those first; or name their directory in overlay_directories.",
        {"overlays": list(overlays)},
    )


# --- before a file goes


def built_on(spec: SnapshotSpec, reading: SnapshotReading, path: str) -> t.List[str]:
    """Every image that is built on the file now, also those that were known to be. The raw file of the disk is on none,
    whatever header its guest has written.
    """
    raw = {block_use.identity_of(layer.path) for layer in reading.layers.values() if layer.format == "raw"}
    return [each for each in _built_on(path, _directories(spec, reading)) if block_use.identity_of(each) not in raw]


def _built_on(path: str, directories: t.Collection[str]) -> t.List[str]:
    places = sorted({*directories, os.path.dirname(path)})
    return dependents.find_dependents([path], places, named_files.recorded_base)[path]


def refuse_built_on(spec: SnapshotSpec, reading: SnapshotReading, path: str) -> None:
    """When all that the file was for is elsewhere. Raises FailedError (has_overlays) when an image is built on it."""
    _refuse_built_on(path, built_on(spec, reading, path))


def refuse_built_in(path: str, directories: t.Collection[str]) -> None:
    """As C(refuse_built_on), by the images in these directories and in that of the file."""
    _refuse_built_on(path, _built_on(path, directories))


def _refuse_built_on(path: str, overlays: t.Sequence[str]) -> None:
    if overlays:
        raise errors.FailedError(
            "%s was to go, but other images are built on it (%s). Flatten or rebase those, and run the task again"
            % (path, ", ".join(overlays[:5])),
            reason="has_overlays",
            evidence={"overlays": overlays},
        )


@contextlib.contextmanager
def unopened(path: str) -> t.Iterator[None]:
    """While the block runs no QEMU has the file open, or can open it. Raises FailedError (image_in_use).

    Whoever reads the file may have an image on it where nobody looks.
    """
    with contextlib.ExitStack() as lock:
        try:
            lock.enter_context(image_lock.image_lock(path, readers=False))
        except errors.RefusedError as exc:
            if exc.reason != "lock_untrusted":  # where there are no locks, QEMU has none either
                raise errors.FailedError(
                    "%s is not needed any more, but a running QEMU has it open, and it stays. Stop that, and run the "
                    "task again" % path,
                    **exc.facts,
                ) from exc
        yield
