# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Merges the layers of an image that nobody has open, and removes those that are left.

A file that goes is locked against QEMU from before its last reading until it is gone, so that a VM that is started in
between does not start, rather than lose what it writes. What is not QEMU asks no lock: that it has written is seen.
"""

from __future__ import annotations

import contextlib
import os
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._inspect import image, meanwhile, vm_images
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import (
    claimed,
    clones,
    family,
    layer_actions,
    layer_records,
    layers,
    merge_actions,
    point_records,
    state,
    stream_records,
)
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.target import base_of
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, records
from ansible_collections.platter.qemu.plugins.module_utils._tools.image_lock import image_lock
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg, image_node

Notes = t.Dict[str, t.Any]
#: what lets a file go
Merging = t.Union[
    merge_actions.CommitOverlay, merge_actions.FinishMerge, merge_actions.StreamBase, merge_actions.RemoveLayer
]
#: one for what opening an unclean overlay writes to it, one for a write of somebody else's
_MOST_COPIES = 3


class Merger:
    """One method per action. C(definitions): of VMs that may have been defined meanwhile."""

    def __init__(self, qemu_img: QemuImg, definitions: meanwhile.Definitions) -> None:
        self._qemu_img = qemu_img
        self._definitions = definitions

    def commit(self, spec: SnapshotSpec, action: merge_actions.CommitOverlay, reading: state.SnapshotReading) -> Notes:
        """Copy the overlay down into the point's file, put what is above onto it, and let the overlay go."""
        with image_lock(action.overlay, readers=False) as lock:
            self.refuse_clones(spec, action, reading)
            if action.compared:
                from ansible_collections.platter.qemu.plugins.module_utils._snapshot import compared

                compared.note(spec, action, reading)
            if layer_records.is_copied(action.base, action.overlay):
                copied = files.file_facts(action.overlay).stamp
            else:
                with image_lock(action.base, readers=False):
                    layer_records.begin_merge(action.base, action.overlay, action.heir)
                with _begun():
                    copied = self._copy_down(action, lock)
            with _begun():
                _refuse_written(action.overlay, copied)
                layer_records.note_copied(action.base)  # the headers tell nothing of it once others are on the base
                self._pass_on(action, reading)
                point_records.settle_rewritten(family.points(reading.layers), action.base)
                _refuse_written(action.overlay, copied)
                clones.refuse_built_on(spec, reading, action.overlay)  # those above are not any more
                with self.unclaimed(action, reading):
                    _let_go(spec, action)
                files.fsync_path(os.path.dirname(action.base))
        return {}

    def refuse_clones(
        self, spec: SnapshotSpec, action: merge_actions.CommitOverlay, reading: state.SnapshotReading
    ) -> None:
        """As that of C(clones), also by what VMs are newly defined with. Raises RefusedError."""
        clones.refuse_clones(spec, reading, clones.harmed(action))
        with self._definitions.since() as new:
            claimed.refuse_new(spec, action, reading, new)

    @contextlib.contextmanager
    def unclaimed(self, action: Merging, reading: state.SnapshotReading) -> t.Iterator[None]:
        """While the block lets a file go no VM has it newly, and none can be defined. Raises FailedError."""
        with self._new(action) as new:
            using = claimed.users(action, reading, new)
            if using:
                told = "the file was to go, but there are new users of it (%s). Have these give it up, and run the task again"
                raise errors.FailedError(told % ", ".join(using[:5]), reason="image_claimed", evidence={"users": using})
            yield

    @contextlib.contextmanager
    def _new(self, action: Merging) -> t.Iterator[t.List[vm_images.Named]]:
        with contextlib.ExitStack() as lock:
            try:
                new = lock.enter_context(self._definitions.since())
            except errors.RefusedError as exc:
                told = "the file was to go, and stays, as nobody knows who has it: the definitions of VMs cannot be read (%s)"
                raise errors.FailedError(told % exc.reason, **exc.facts) from exc
            yield new

    def _pass_on(self, action: merge_actions.CommitOverlay, reading: state.SnapshotReading) -> None:
        """Put what is above the overlay onto its base."""
        if action.above:
            layer_records.keep_leaf(action.overlay)
        for above in action.above:
            self.put_onto(above, action, reading)

    def _copy_down(self, action: merge_actions.CommitOverlay, lock: int) -> files.Stamp:
        """Copy until nothing has been written meanwhile; what the overlay was then.

        qemu-img takes no lock of its own on the overlay, as ours keeps it away too; it inherits ours.
        """
        top = image_node("qcow2", {"driver": "file", "filename": action.overlay, "locking": "off"})
        for _round in range(_MOST_COPIES):
            before = files.file_facts(action.overlay).stamp
            self._qemu_img.commit(top, held=(lock,))
            files.fsync_path(action.base)
            if files.file_facts(action.overlay).stamp == before:
                return before
        raise _written(action.overlay)

    def put_onto(self, above: str, action: merge_actions.CommitOverlay, reading: state.SnapshotReading) -> None:
        """Put one layer onto the point's file. Only the name changes: the two bases hold the same now."""
        node = image_node("qcow2", {"driver": "file", "filename": above})
        with layer_records.rewritten(above, reading.layers[above].point, action.base):
            self._qemu_img.unsafe_rebase(node, layers.as_before(above, action.base), action.base_format)
            layer_records.remember_base(above, action.base)
            files.fsync_path(above)

    def finish(self, spec: SnapshotSpec, action: merge_actions.FinishMerge, reading: state.SnapshotReading) -> Notes:
        """The overlay of a merge that was complete but for its removal goes; the image's name leads to the base."""
        with clones.unopened(action.overlay), self.unclaimed(action, reading):
            clones.refuse_built_on(spec, reading, action.overlay)
            if not layer_records.is_copied(action.base, action.overlay):
                raise layers.changed_meanwhile(spec, "somebody has written to %s" % action.overlay)
            layers.lead_to_base(spec, action)
            layer_records.remove_layer(action.overlay)
        layer_records.end_merge(action.base)
        return {}

    def stream(self, spec: SnapshotSpec, action: merge_actions.StreamBase, reading: state.SnapshotReading) -> Notes:
        """Copy what the point's file holds up into the overlay; the file goes, or is no point any more."""
        node = image_node("qcow2", {"driver": "file", "filename": action.overlay})
        new_base = layers.as_before(action.overlay, action.new_base) if action.new_base else ""
        with image_lock(action.base):
            before = files.file_facts(action.base).stamp
            with image_lock(action.overlay, readers=False):
                stream_records.begin_stream(action)
            with _begun():
                with layer_records.rewritten(action.overlay, reading.layers[action.overlay].point, action.base):
                    self._qemu_img.rebase(node, new_base, action.new_base_format or "")
                    files.fsync_path(action.overlay)
                _refuse_written(action.base, before)
                return self.drop_base(spec, action, reading)

    def drop_base(self, spec: SnapshotSpec, action: merge_actions.StreamBase, reading: state.SnapshotReading) -> Notes:
        """The point's file, all of which is in the layer above now, goes, or is no point any more."""
        if action.keeps:
            stream_records.end_stream(action)
            return {}
        with clones.unopened(action.base), self._new(action) as new:
            using = [*clones.built_on(spec, reading, action.base), *claimed.users(action, reading, new)]
            stream_records.end_stream(replace(action, keeps="others") if using else action)
        kept = "%s stays, and is no snapshot any more: others have begun to use it or to build on it meanwhile (%s)."
        return {"warnings": [kept % (action.base, ", ".join(using[:5]))]} if using else {}

    @staticmethod
    def accept(spec: SnapshotSpec, action: layer_actions.AcceptPoint, reading: state.SnapshotReading) -> Notes:
        """What a point's file holds now is the point."""
        path = str(action.point.path)
        with image_lock(path):
            layer_records.settle_point(path)
        return {}

    def remove(self, spec: SnapshotSpec, action: merge_actions.RemoveLayer, reading: state.SnapshotReading) -> Notes:
        """Remove a point's file that nothing is built on."""
        path = str(action.point.path)
        with image_lock(path, readers=False):
            if action.stamp and files.file_facts(path).stamp != action.stamp:
                raise layers.changed_meanwhile(spec, "somebody has written to %s" % path)
            clones.refuse_clones(spec, reading, [path])
            with self.unclaimed(action, reading):
                _remove_point(path, reading)
        return {}


def _remove_point(path: str, reading: state.SnapshotReading) -> None:
    base, into = base_of(path, image.look_at(path, None)), layer_records.snapshot_of(path).get("into")
    streamed = into in reading.layers and reading.layers[str(into)].base != path  # by a run that was killed
    if streamed:
        stream_records.settle_lowest(str(into), path)
    if layer_records.is_made(path):
        layer_records.keep_leaf(base)
    point_records.settle_rewritten(family.points(reading.layers), path)  # it was streamed, and the run killed
    layer_records.remove_layer(path)
    layer_records.change_overlays(base, gone=(path,))
    if streamed:
        layer_records.forget(str(into), "streaming")


@contextlib.contextmanager
def _begun() -> t.Iterator[None]:
    """What fails from here on has changed something, and says so."""
    try:
        yield
    except errors.EngineError as exc:
        exc.facts["changed"] = True
        raise
    except OSError as exc:
        raise errors.FailedError("%s: %s" % (exc.filename, exc.strerror), changed=True) from exc


def _let_go(spec: SnapshotSpec, action: merge_actions.CommitOverlay) -> None:
    """The overlay, all of which is in its base now, goes."""
    if action.renames:
        below = base_of(action.base, image.look_at(action.base, action.base_format))
        layer_records.note_overlay(below, action.overlay, action.base)
        # for file systems where what is remembered goes by the name
        records.write_record(action.base, records.read_record(action.base), action.overlay)
        os.rename(action.base, action.overlay)
        records.remove_record(action.base)
        layer_records.change_overlays(below, gone=(action.base,))
    else:
        layer_records.note_merged(action.base)
        layers.lead_to_base(spec, action)  # only now: see left_merge
        layer_records.remove_layer(action.overlay)
    layer_records.end_merge(action.overlay if action.renames else action.base)


def _refuse_written(path: str, before: files.Stamp) -> None:
    if files.file_facts(path).stamp != before:
        raise _written(path)


def _written(path: str) -> errors.FailedError:
    return errors.FailedError("somebody writes to %s, which was to go" % path, reason="changed_meanwhile")
