# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Merges layers that a running QEMU has open, by block jobs whose ids a next run finds again.

Leaving the active overlay has a moment in which the disk moves to another file: a VM that is started from the old one
after it would see old data over new. So the overlay loses its name before QEMU leaves it (C(.leaving~)): nothing can
start from it in between, and a next run can tell what happened.
"""

from __future__ import annotations

import contextlib
import os
import time
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import (
    block_graph,
    clones,
    family,
    layer_records,
    layers,
    merge,
    merge_actions,
    merge_stages,
    point_records,
    refuse,
    state,
    stream_records,
)
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, qmp_jobs, records
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp

Notes = t.Dict[str, t.Any]


class LiveMerge:
    """Commits, streams and removals in one QEMU, and beside it: C(merger) does what concerns none of its files."""

    def __init__(self, qmp: Qmp, merger: merge.Merger) -> None:
        self._qmp = qmp
        self._merger = merger

    # --- down

    def commit(self, spec: SnapshotSpec, action: merge_actions.CommitOverlay, reading: state.SnapshotReading) -> Notes:
        """Copy an overlay down into the point's file; the active one is left by QEMU."""
        live = _live(reading)
        inside = family.in_chain(live.nodes, action.base, action.overlay)
        if inside is False:
            return self._merger.commit(spec, action, reading)
        if not reading.layers[action.base].copied:
            self._merger.refuse_clones(spec, action, reading)
        if inside and action.overlay == live.active:
            return self._commit_active(spec, action, reading)
        if inside:
            self._commit_middle(spec, action, reading)
        elif action.base not in live.nodes or not reading.layers[action.base].copied:
            raise refuse.chain_differs(spec, action.overlay)
        self._clear_up(spec, action, reading)
        return {}

    def _commit_middle(
        self, spec: SnapshotSpec, action: merge_actions.CommitOverlay, reading: state.SnapshotReading
    ) -> None:
        live = _live(reading)
        above = [path for path in action.above if path in live.nodes]
        if len(above) != 1:
            raise refuse.chain_differs(spec, action.overlay)
        layer_records.begin_merge(action.base, action.overlay, action.heir)
        with layer_records.rewritten(above[0], reading.layers[above[0]].point, action.base):
            self._copy_down(spec, action, live, above[0])
        files.fsync_path(action.base)
        layer_records.remember_base(above[0], action.base)

    def _copy_down(self, spec: SnapshotSpec, action: merge_actions.CommitOverlay, live: state.Live, above: str) -> None:
        """A job of an earlier run is finished; one that has not done its work is started anew."""
        job, node = block_graph.job_id("commit", action.base), live.nodes[action.base]
        if qmp_jobs.find_job(self._qmp, job) is not None:
            self._end_commit(job, node, action.base, spec)
        if self._is_part(action.overlay, live.node):
            arguments = {"device": live.node, "top_node": live.nodes[action.overlay], "base_node": node}
            name = layers.as_before(above, action.base)
            qmp_jobs.start_job(self._qmp, "block-commit", job, backing_file=name, **arguments)
            ended = self._end_commit(job, node, action.base, spec)
            if self._is_part(action.overlay, live.node):
                raise _without_its_work(ended)
        layer_records.note_copied(action.base)

    def _end_commit(self, job: str, node: str, base: str, spec: SnapshotSpec) -> qmp_jobs.Job:
        """When all is copied it is noted: once the job is over and forgotten, nothing else would tell."""
        return self._end(job, node, spec, lambda: layer_records.note_copied(base))

    def _clear_up(
        self, spec: SnapshotSpec, action: merge_actions.CommitOverlay, reading: state.SnapshotReading
    ) -> None:
        """QEMU has let the overlay go; who else is built on it is put onto the base."""
        live, job = _live(reading), block_graph.job_id("commit", action.base)
        if qmp_jobs.find_job(self._qmp, job) is not None:  # of a killed run, all but forgotten
            self._end(job, live.nodes[action.base], spec)
        for above in action.above:
            if above not in live.nodes:
                self._merger.put_onto(above, action, reading)
            files.fsync_path(
                above
            )  # QEMU writes the name of the base there, and syncs it when the guest flushes its disk
        point_records.settle_rewritten(family.points(reading.layers), action.base)
        self._remove_overlay(spec, action, reading)

    def _commit_active(
        self, spec: SnapshotSpec, action: merge_actions.CommitOverlay, reading: state.SnapshotReading
    ) -> Notes:
        """The job finalizes itself: while it waited to be told, the guest's requests would wait too."""
        live, job = _live(reading), block_graph.job_id("commit", action.base)
        deadline = time.monotonic() + spec.job_timeout
        leaving = merge_stages.both_names(action.overlay)[1]
        if action.overlay != leaving:  # else an earlier run may have told QEMU already, which stays noted
            layer_records.begin_merge(action.base, action.overlay)
        if qmp_jobs.find_job(self._qmp, job) is None:
            nodes = {"device": live.node, "top-node": live.node, "base-node": live.nodes[action.base]}
            self._qmp.execute("block-commit", {"job-id": job, "auto-dismiss": False, **nodes})
        self._ready(job, deadline)
        try:
            clones.refuse_built_on(spec, reading, action.overlay)
            with self._merger.unclaimed(action, reading):
                pass  # and once more when it goes
        except errors.EngineError:
            qmp_jobs.cancel_job(self._qmp, job, deadline)
            raise
        if action.overlay != leaving:
            layer_records.begin_merge(action.base, leaving)  # before: who finds that name must know what it means
            leave(action.overlay)
        layer_records.note_told(action.base)
        return self.finish(spec, merge_actions.FinishMerge(spec.image, action.base, leaving), reading)

    def _ready(self, job: str, deadline: float) -> None:
        """A commit of the active layer has caught up; it may also have failed, or been cancelled by somebody."""
        found = qmp_jobs.wait_job(self._qmp, job, ("ready",), deadline)
        if found.status != "ready":
            raise _without_its_work(qmp_jobs.finish_job(self._qmp, job, deadline))

    def finish(self, spec: SnapshotSpec, action: merge_actions.FinishMerge, reading: state.SnapshotReading) -> Notes:
        """QEMU leaves the overlay, or has left it: the image's name leads to the base then, and the overlay goes."""
        self._leave(spec, action)
        layers.lead_to_base(spec, action)
        files.fsync_path(action.base)
        self._remove_overlay(spec, action, reading)
        return {}

    def _leave(self, spec: SnapshotSpec, action: merge_actions.FinishMerge) -> None:
        """That QEMU has left is seen in its graph: a job that was cancelled ends like one that has done its work.

        It is noted before the job, the only other witness, is dismissed.
        """
        job = block_graph.job_id("commit", action.base)
        ended = qmp_jobs.end_job(self._qmp, job, time.monotonic() + spec.job_timeout)
        graph = block_graph.BlockGraph(self._qmp)
        left = graph.uses(action.base) and not graph.uses(action.overlay)
        if left:
            layer_records.note_merged(action.base)
        qmp_jobs.dismiss_ended(self._qmp, ended)
        if not left:
            raise _without_its_work(ended)

    # --- up

    def stream(self, spec: SnapshotSpec, action: merge_actions.StreamBase, reading: state.SnapshotReading) -> Notes:
        """Copy what the point's file holds up into the layer above it; QEMU lets the file go."""
        live = _live(reading)
        inside = family.in_chain(live.nodes, action.base, action.overlay)
        if inside is False:
            return self._merger.stream(spec, action, reading)
        if not inside or (action.new_base and action.new_base not in live.nodes):
            raise refuse.chain_differs(spec, action.base)
        stream_records.begin_stream(action)
        with layer_records.rewritten(action.overlay, reading.layers[action.overlay].point, action.base):
            self._copy_up(spec, action, live)
        self._let_go(action.base)
        return self._merger.drop_base(spec, action, reading)

    def _copy_up(self, spec: SnapshotSpec, action: merge_actions.StreamBase, live: state.Live) -> None:
        job, node = block_graph.job_id("stream", action.overlay), live.nodes[action.overlay]
        if qmp_jobs.find_job(self._qmp, job) is None:
            arguments = {"job-id": job, "device": node, "auto-finalize": False}
            self._qmp.execute("block-stream", {**arguments, **_onto(action, live)})
        self._end(job, node, spec)
        self._refuse_half_done(node, action, job)
        self.flush(node)
        files.fsync_path(action.overlay)

    def _refuse_half_done(self, node: str, action: merge_actions.StreamBase, job: str) -> None:
        """A stream dismisses itself, as one that waits for it is a danger (see BlockGraph): its work tells of it."""
        if self._is_part(action.base, node):
            event = self._qmp.wait_event(lambda event: event["data"].get("device") == job, time.monotonic())
            said = event["data"].get("error") if event else None
            raise _without_its_work(qmp_jobs.Job(job, "stream", qmp_jobs.GONE, error=said))

    def flush(self, node: str) -> None:
        """Write out the tables of a node that QEMU has in memory until the guest flushes its disk.

        A stream job does not; QMP has no command for it, but QEMU's monitor for humans has.
        """
        said = self._qmp.execute("human-monitor-command", {"command-line": 'qemu-io %s "flush"' % node})
        if said.strip():
            raise errors.FailedError("failed: QEMU does not write out what it has streamed: %s" % said.strip())

    # --- jobs

    def _end(
        self, job: str, node: str, spec: SnapshotSpec, copied: t.Callable[[], None] = lambda: None
    ) -> qmp_jobs.Job:
        """Bring a job to its end. C(node): what it has written to; C(copied) is called when all is written there.

        QEMU names another base in a header without having written the tables of what it has copied: if it crashed then,
        the disk would be old data. So they are written out while the job waits to be told to go on.
        """
        deadline = time.monotonic() + spec.job_timeout
        if qmp_jobs.wait_job(self._qmp, job, ("pending",), deadline).status == "pending":
            self.flush(node)
            copied()
        return qmp_jobs.finish_job(self._qmp, job, deadline)

    def _is_part(self, path: str, node: str) -> bool:
        return block_graph.BlockGraph(self._qmp).is_part(path, node)

    # --- files that go

    def remove(self, spec: SnapshotSpec, action: merge_actions.RemoveLayer, reading: state.SnapshotReading) -> Notes:
        """Remove a point's file that nothing is built on. What a killed run has streamed out of it may not be on the
        disk yet.
        """
        path = str(action.point.path)
        self.flush(_live(reading).node)
        self._let_go(path)
        return self._merger.remove(spec, action, reading)

    def _remove_overlay(
        self,
        spec: SnapshotSpec,
        action: t.Union[merge_actions.CommitOverlay, merge_actions.FinishMerge],
        reading: state.SnapshotReading,
    ) -> None:
        self._let_go(action.overlay)
        with clones.unopened(action.overlay), self._merger.unclaimed(action, reading):
            clones.refuse_built_on(spec, reading, action.overlay)
            layer_records.note_merged(action.base)
            layer_records.remove_layer(action.overlay)
        layer_records.end_merge(action.base)

    def _let_go(self, path: str) -> None:
        """A node that the VM's own command line has named stays open until it is deleted."""
        for name in block_graph.BlockGraph(self._qmp).nodes_on(path):
            if not name.startswith("#"):
                with contextlib.suppress(errors.QmpCommandError):  # still used by something else: not ours to end
                    self._qmp.execute("blockdev-del", {"node-name": name})


def _without_its_work(job: qmp_jobs.Job) -> errors.FailedError:
    """Of a job that is gone nobody knows more than what its work shows."""
    said = job.error or "it was cancelled"
    return errors.FailedError("failed: QEMU's job %s ended without its work: %s." % (job.id, said))


def leave(overlay: str) -> None:
    """Take the overlay its name.

    Where what is remembered goes by the name it is remembered under both, as somebody may give it its old one again.
    """
    leaving = overlay + family.LEAVING
    records.write_record(overlay, records.read_record(overlay), leaving)
    os.rename(overlay, leaving)
    files.fsync_path(os.path.dirname(overlay))


def _onto(action: merge_actions.StreamBase, live: state.Live) -> t.Dict[str, t.Any]:
    """Where the streamed layer lies afterwards; on nothing: no arguments."""
    if not action.new_base:
        return {}
    name = layers.as_before(action.overlay, action.new_base)
    return {"base-node": live.nodes[action.new_base], "backing-file": name}


def _live(reading: state.SnapshotReading) -> state.Live:
    if reading.live is None:
        raise errors.FailedError("failed: the image is not open in a running QEMU any more. Nothing was changed.")
    return reading.live
