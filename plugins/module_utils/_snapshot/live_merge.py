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
    family,
    layer_actions,
    layer_records,
    layers,
    state,
)
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, qmp_jobs
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp

Notes = t.Dict[str, t.Any]


class LiveMerge:
    """Commits and streams in one QEMU."""

    def __init__(self, qmp: Qmp) -> None:
        self._qmp = qmp

    def commit(self, spec: SnapshotSpec, action: layer_actions.CommitOverlay, reading: state.SnapshotReading) -> Notes:
        """Copy an overlay down into the point's file; the active one is left by QEMU."""
        live = _live(reading)
        job = block_graph.job_id("commit", action.base)
        if action.overlay == live.active:
            return self._commit_active(spec, action, live, job)
        layer_records.begin_merge(action.base, action.overlay)
        with contextlib.ExitStack() as rewritten:
            for above in action.above:
                rewritten.enter_context(layer_records.rewritten(above))
            self._commit_middle(spec, action, live, job)
        files.fsync_path(action.base)
        for above in action.above:
            layer_records.remember_base(above, action.base)
        self._forget_nodes(action.overlay)
        layer_records.remove_layer(action.overlay)
        layer_records.end_merge(action.base)
        return {}

    def _commit_middle(
        self, spec: SnapshotSpec, action: layer_actions.CommitOverlay, live: state.Live, job: str
    ) -> None:
        if not self._adopted(job, live.nodes.get(action.base), spec) and action.overlay in live.nodes:
            arguments = {"device": live.node, "top_node": live.nodes[action.overlay], "backing_file": action.base}
            qmp_jobs.start_job(self._qmp, "block-commit", job, base_node=live.nodes[action.base], **arguments)
            self._succeeded(self._end(job, live.nodes[action.base], spec))

    def _commit_active(
        self, spec: SnapshotSpec, action: layer_actions.CommitOverlay, live: state.Live, job: str
    ) -> Notes:
        """The job finalizes itself: while it waited to be told, the guest's requests would wait too."""
        deadline = time.monotonic() + spec.job_timeout
        layer_records.begin_merge(action.base, action.overlay)
        if qmp_jobs.find_job(self._qmp, job) is None:
            self._qmp.execute(
                "block-commit",
                {
                    "job-id": job,
                    "device": live.node,
                    "top-node": live.node,
                    "base-node": live.nodes[action.base],
                    "auto-dismiss": False,
                },
            )
        self._ready(job, deadline)
        leaving = leave(action.overlay)
        layer_records.begin_merge(action.base, leaving)
        self._succeeded(qmp_jobs.finish_job(self._qmp, job, deadline))
        return self.finish(spec, layer_actions.FinishMerge(spec.image, action.base, leaving), None)

    def _ready(self, job: str, deadline: float) -> None:
        """A commit of the active layer has caught up; it may also have failed, or been cancelled by somebody."""
        found = qmp_jobs.wait_job(self._qmp, job, ("ready",), deadline)
        if found.status != "ready":
            self._succeeded(qmp_jobs.finish_job(self._qmp, job, deadline))
            raise errors.FailedError("failed: QEMU's job %s ended before it could switch over." % job)

    def finish(self, spec: SnapshotSpec, action: layer_actions.FinishMerge, reading: t.Any) -> Notes:
        """QEMU has left the overlay: the image's name leads to the base now, and the overlay goes."""
        self._adopted(block_graph.job_id("commit", action.base), None, spec)
        self._forget_nodes(action.overlay)
        layer_records.note_merged(action.base)
        if os.path.islink(spec.image) and spec.switch == "symlink":
            layers.switch_link(spec.image, action.base)
        files.fsync_path(action.base)
        layer_records.remove_layer(action.overlay)
        layer_records.end_merge(action.base)
        return {}

    def stream(self, spec: SnapshotSpec, action: layer_actions.StreamBase, reading: state.SnapshotReading) -> Notes:
        """Copy what the point's file holds up into the layer above it; QEMU lets the file go."""
        live = _live(reading)
        job = block_graph.job_id("stream", action.overlay)
        layer_records.begin_stream(action)
        with layer_records.rewritten(action.overlay):
            self._stream(spec, action, live, job)
        self._forget_nodes(action.base)
        layer_records.end_stream(action)
        return {}

    def _stream(self, spec: SnapshotSpec, action: layer_actions.StreamBase, live: state.Live, job: str) -> None:
        node = live.nodes[action.overlay]
        if qmp_jobs.find_job(self._qmp, job) is None:
            arguments = {"job-id": job, "device": node, "auto-finalize": False}
            self._qmp.execute("block-stream", {**arguments, **_onto(action, live)})
        self._end(job, node, spec)
        self._refuse_half_done(node, action, job)
        self.flush(node)
        files.fsync_path(action.overlay)

    def _refuse_half_done(self, node: str, action: layer_actions.StreamBase, job: str) -> None:
        """A stream dismisses itself, as one that waits for it is a danger (see BlockGraph): its work tells of it."""
        graph = block_graph.BlockGraph(self._qmp)
        if action.base in {os.path.realpath(str(graph.file_of(each))) for each in graph.chain(node)}:
            event = self._qmp.wait_event(lambda event: event["data"].get("device") == job, time.monotonic())
            said = event["data"].get("error") if event else None
            raise errors.FailedError(
                "failed: QEMU's job %s ended without its work: %s." % (job, said or "it was cancelled")
            )

    def flush(self, node: str) -> None:
        """Write out the tables of a node that QEMU has in memory until the guest flushes its disk.

        A stream job does not; QMP has no command for it, but QEMU's monitor for humans has.
        """
        said = self._qmp.execute("human-monitor-command", {"command-line": 'qemu-io %s "flush"' % node})
        if said.strip():
            raise errors.FailedError("failed: QEMU does not write out what it has streamed: %s" % said.strip())

    # --- jobs

    def _adopted(self, job: str, node: t.Optional[str], spec: SnapshotSpec) -> bool:
        """Finish a job that an earlier run has started and did not see the end of; one that failed is started anew."""
        found = qmp_jobs.find_job(self._qmp, job)
        if found is None:
            return False
        return not self._end(job, node, spec).failed

    def _end(self, job: str, node: t.Optional[str], spec: SnapshotSpec) -> qmp_jobs.Job:
        """Bring a job to its end. C(node): what it has written to; None where the job itself writes that out.

        QEMU names another base in a header without having written the tables of what it has copied: if it crashed then,
        the disk would be old data. So they are written out while the job waits to be told to go on.
        """
        deadline = time.monotonic() + spec.job_timeout
        if node and qmp_jobs.wait_job(self._qmp, job, ("pending",), deadline).status == "pending":
            self.flush(node)
        return qmp_jobs.finish_job(self._qmp, job, deadline)

    def _succeeded(self, job: qmp_jobs.Job) -> None:
        if job.failed:
            raise errors.FailedError("failed: QEMU's job %s ended with: %s." % (job.id, job.error))

    def _forget_nodes(self, path: str) -> None:
        """A node that the VM's own command line has named stays open until it is deleted."""
        for name in block_graph.BlockGraph(self._qmp).nodes_on(path):
            if not name.startswith("#"):
                with contextlib.suppress(errors.QmpCommandError):  # still used by something else: not ours to end
                    self._qmp.execute("blockdev-del", {"node-name": name})


def leave(overlay: str) -> str:
    """Take the overlay its name; an earlier run may have done it."""
    if overlay.endswith(family.LEAVING):
        return overlay
    os.rename(overlay, overlay + family.LEAVING)
    files.fsync_path(os.path.dirname(overlay))
    return overlay + family.LEAVING


def _onto(action: layer_actions.StreamBase, live: state.Live) -> t.Dict[str, t.Any]:
    """Where the streamed layer lies afterwards; on nothing: no arguments."""
    if not action.new_base:
        return {}
    return {"base-node": live.nodes[os.path.realpath(action.new_base)], "backing-file": action.new_base}


def _live(reading: state.SnapshotReading) -> state.Live:
    if reading.live is None:
        raise errors.FailedError("failed: the image is not open in a running QEMU any more. Nothing was changed.")
    return reading.live
